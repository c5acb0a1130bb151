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
	dir, err := w.openProcess(pid)
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
	n.used = w.index.mounted(n, w.spaces.get(w.own))
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
			n.used = w.index.mounted(n, own)
		}
		w.spaces.mu.Lock()
		w.spaces.closed[key] = n
		w.spaces.mu.Unlock()
	}
	s.note(store.ByMount, answer{places: n.used})
	return nil
}

// mounted lists the parts of trees that are mounted in a namespace, for each
// tree the one that comes first. That the file system around a tree is mounted
// says nothing.
func (x *index) mounted(n, own *namespace) (found []place) {
	done := map[int]bool{}
	keep := func(places []place) {
		for _, p := range places {
			if !done[p.tree] {
				done[p.tree] = true
				found = append(found, p)
			}
		}
	}
	for _, m := range n.mounts {
		keep(x.find(m.dev, m.root))
		if m.fstype != "overlay" {
			continue
		}
		for _, layer := range layers(m.super) {
			for _, space := range []*namespace{n, own} {
				if over := space.over(layer); len(over) > 0 {
					inner, _ := over[0].inside(layer)
					keep(x.find(over[0].dev, inner))
				}
			}
		}
	}
	return found
}

// layers lists the directories that an overlay is made of, as whoever mounted
// it spelled them.
func layers(options string) (dirs []string) {
	for _, option := range split(options, ',') {
		name, value, _ := strings.Cut(option, "=")
		switch strings.TrimSuffix(name, "+") {
		case "lowerdir", "upperdir", "datadir":
		default:
			continue
		}
		for _, dir := range split(value, ':') {
			if dir = plain(dir); dir != "" {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// split cuts at the separator where no backslash is before it.
func split(text string, sep byte) (parts []string) {
	start := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

func plain(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
