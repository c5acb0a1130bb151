package occupancy

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"berth/store"
)

// spaces is what is known of the mount namespaces of all processes.
type spaces struct {
	mu     sync.RWMutex
	byName map[string]*namespace // by the text of /proc/PID/ns/mnt
	byID   map[uint64]*mount
	closed map[string]*namespace // of processes that we may not ask, by the text of mountinfo
}

func newSpaces() *spaces {
	return &spaces{
		byName: map[string]*namespace{},
		byID:   map[uint64]*mount{},
		closed: map[string]*namespace{},
	}
}

func (s *spaces) get(name string) *namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byName[name]
}

func (s *spaces) mount(id uint64) *mount {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

// set makes a namespace known that is not going to change any more.
func (s *spaces) set(name string, n *namespace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byName[name] = n
	for _, m := range n.mounts {
		s.byID[m.id] = m
	}
}

// read adds the mounts that a mountinfo shows. It has the mount points relative
// to the root directory of its process, which has this path.
func (n *namespace) read(dir int, name, root string, buf *[]byte) error {
	text, err := readMountinfo(dir, name, buf)
	if err != nil {
		return err
	}
	mounts, err := parseMountinfo(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, m := range mounts {
		m.point = join(root, strings.TrimPrefix(m.point, "/"))
	}
	n.add(mounts...)
	n.whole = n.whole || root == "/"
	return nil
}

// readMountinfo takes EINVAL, which is what a process gives that has left its
// namespaces on its way out, for an end like any other.
func readMountinfo(dir int, name string, buf *[]byte) ([]byte, error) {
	text, err := readFile(dir, name, buf)
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w (%w)", unix.ESRCH, err)
	}
	return text, err
}

// survey makes the mount namespace of a process known. mountinfo shows only
// what is below a process's root, so that one who is not in a chroot is the
// better witness.
func (w *worker) survey(pid int) error {
	dir, _, err := w.openProcess(pid)
	if err != nil && refused(err) || err == nil && dir < 0 {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	name, err := readlink(dir, "ns/mnt", w.link)
	if err != nil {
		return w.failed(err, &seen{})
	}
	if name == w.own {
		return nil
	}
	root, err := readlink(dir, "root", w.link)
	if err != nil {
		return w.failed(err, &seen{})
	}
	w.mu.Lock()
	before := w.seen[pid]
	w.mu.Unlock()
	known := w.spaces.get(name)
	if known != nil && before == nil && (known.whole || root != "/" && known.roots[root]) {
		return nil
	}
	n := &namespace{roots: map[string]bool{}}
	if known != nil && root != "/" {
		// Another chroot in it. What was known stays.
		n.whole = known.whole
		maps.Copy(n.roots, known.roots)
		n.add(known.mounts...)
	}
	n.roots[root] = true
	// One that cannot be read stays partial.
	if err := n.read(dir, "mountinfo", root, &w.file); gone(err) {
		return nil
	}
	theirs := n.openRoot(dir)
	defer theirs.close()
	n.used = w.index.mounted(n, theirs, rootDir{here, w.spaces.get(w.own)})
	w.spaces.set(name, n)
	return nil
}

// deniedMounts finds what is mounted for a process that we may not look into:
// everybody may read its mountinfo.
func (w *worker) deniedMounts(dir int, s *seen) error {
	text, err := readMountinfo(dir, "mountinfo", &w.file)
	if err != nil {
		return w.failed(err, s)
	}
	w.spaces.mu.Lock()
	n := w.spaces.closed[string(text)]
	w.spaces.mu.Unlock()
	if n == nil {
		key := string(text)
		mounts, err := parseMountinfo(key)
		if err != nil {
			return fmt.Errorf("mountinfo: %w", err)
		}
		n = &namespace{}
		own := w.spaces.get(w.own)
		if len(mounts) > 0 && !own.has(mounts[0].id) {
			n.add(mounts...)
			n.used = w.index.mounted(n, rootDir{nowhere, n}, rootDir{here, own})
		}
		w.spaces.mu.Lock()
		w.spaces.closed[key] = n
		w.spaces.mu.Unlock()
	}
	s.note(store.ByMount, answer{places: n.used})
	return nil
}

// mounted lists the parts of trees that are mounted in a namespace, or under
// what is mounted there, for each tree the one that comes first. That the file
// system around a tree is mounted says nothing. roots are that of the processes
// there, and ours.
func (x *index) mounted(n *namespace, roots ...rootDir) (found []place) {
	done := map[int]bool{}
	keep := func(places []place) {
		for _, p := range places {
			if !done[p.tree] {
				done[p.tree] = true
				found = append(found, p)
			}
		}
	}
	byID := map[uint64]*mount{}
	for _, m := range n.mounts {
		byID[m.id] = m
	}
	for _, m := range n.mounts {
		keep(x.find(m.dev, m.root))
		if m.fstype == "overlay" {
			for _, layer := range layers(m.super) {
				keep(x.layer(layer, roots...))
			}
		}
		// What we have mounted ourselves in a tree stops whoever deletes it.
		if below := byID[m.parent]; below != nil && len(roots) > 1 {
			if inner, ok := below.inside(m.point); ok {
				keep(x.find(below.dev, inner))
			}
		}
	}
	return found
}
