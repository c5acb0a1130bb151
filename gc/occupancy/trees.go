package occupancy

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/store"
)

// place is a tree and something in it.
type place struct {
	tree int
	path string // relative to the tree, "." for itself
}

// tree is one of the trees that are asked about.
type tree struct {
	fd    int
	link  string   // its own path, as the kernel spells it
	names []string // of paths that lead to it, or did
	id    identity
	mnt   *mount
}

// identity is what two looks at one file agree in, as statx(2) tells it.
type identity struct{ dev, ino uint64 }

// index finds the trees that a path in a file system belongs to, whatever
// their number.
type index struct {
	trees  []tree
	byPath map[device]*pathIndex
	byStat map[uint64][]int // by st_dev
	made   []*mount         // ours of which mountinfo says nothing
	proc   *procfs
}

type pathIndex struct {
	trees   map[string][]int
	lengths map[int]bool // which of a path's prefixes to look up
}

const deletedMark = " (deleted)"

// statxMask is all that is asked of a file. The answer may be old where a
// server would have to be asked: identities do not change.
const (
	statxMask  = unix.STATX_INO | unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_MNT_ID
	statxFlags = unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
)

func identityOf(st *unix.Statx_t) identity {
	return identity{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}

func newIndex(trees []store.Tree, proc *procfs, own *namespace, byID map[uint64]*mount) (*index, error) {
	x := &index{byPath: map[device]*pathIndex{}, byStat: map[uint64][]int{}, proc: proc}
	buf := make([]byte, linkSize)
	for i, given := range trees {
		t, err := locate(given.Dir, proc, byID, buf)
		if err != nil {
			return nil, fmt.Errorf("locate the tree %s: %w", strconv.Quote(given.Path), err)
		}
		path, ok := "", t.mnt != nil
		if ok {
			path, ok = t.mnt.inside(t.link)
		}
		if !ok {
			// In a chroot that is no mount point, mountinfo leaves out what
			// "/" is. What is reached through the same mount can be compared
			// all the same.
			dev := device{unix.Major(t.id.dev), unix.Minor(t.id.dev)}
			t.mnt = &mount{id: t.mntID, dev: dev, root: "/", point: "/"}
			path = t.link
			x.made = append(x.made, t.mnt)
			own.add(t.mnt)
			own.whole, byID[t.mntID] = false, t.mnt
		}
		t.names = given.Names
		x.trees = append(x.trees, t.tree)
		x.byStat[t.id.dev] = append(x.byStat[t.id.dev], i)
		p := x.byPath[t.mnt.dev]
		if p == nil {
			p = &pathIndex{map[string][]int{}, map[int]bool{}}
			x.byPath[t.mnt.dev] = p
		}
		p.trees[path] = append(p.trees[path], i)
		p.lengths[len(path)] = true
	}
	return x, nil
}

type located struct {
	tree
	mntID uint64
}

func locate(f *os.File, proc *procfs, byID map[uint64]*mount, buf []byte) (t located, err error) {
	t.fd = int(f.Fd())
	var st unix.Statx_t
	if err := unix.Statx(t.fd, "", unix.AT_EMPTY_PATH|statxFlags, statxMask, &st); err != nil {
		return t, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return t, errors.New("the kernel does not tell mounts apart (needs Linux 5.8)")
	}
	if t.link, err = proc.selfLink(t.fd, buf); err != nil {
		return t, err
	}
	if st.Nlink == 0 {
		t.link = strings.TrimSuffix(t.link, deletedMark)
	}
	t.id, t.mntID, t.mnt = identityOf(&st), st.Mnt_id, byID[st.Mnt_id]
	return t, nil
}

// moved tells whether a tree was renamed since the index was made.
func (x *index) moved(proc *procfs) bool {
	buf := make([]byte, linkSize)
	for _, t := range x.trees {
		if link, err := proc.selfLink(t.fd, buf); err != nil || strings.TrimSuffix(link, deletedMark) != t.link {
			return true
		}
	}
	return false
}

func (x *index) on(dev device) bool { return x.byPath[dev] != nil }

// find lists the trees that a path in a file system is in.
func (x *index) find(dev device, path string) []place {
	p := x.byPath[dev]
	if p == nil {
		return nil
	}
	var found []place
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if !p.lengths[end] {
			continue
		}
		for _, i := range p.trees[path[:end]] {
			found = append(found, place{i, relative(path[end:])})
		}
	}
	if path != "/" {
		for _, i := range p.trees["/"] {
			found = append(found, place{i, relative(path)})
		}
	}
	return found
}

func relative(rest string) string {
	if rest = strings.TrimLeft(rest, "/"); rest == "" {
		return "."
	}
	return rest
}

// verdict is what a look at the file itself says of a place.
type verdict int

const (
	other   verdict = iota // something else is there, or nothing
	same                   // it is the file
	unknown                // something hides what is there
)

// compare looks whether what is at the place is a certain file. What is
// mounted there, for us, hides the tree's own file.
func (x *index) compare(p place, is func(identity) bool) verdict {
	t := &x.trees[p.tree]
	name, flags := p.path, unix.AT_SYMLINK_NOFOLLOW|statxFlags
	if name == "." {
		name, flags = "", flags|unix.AT_EMPTY_PATH
	}
	var st unix.Statx_t
	switch err := unix.Statx(t.fd, name, flags, statxMask, &st); {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return x.hidden(p)
	case err != nil:
		return unknown
	case is(identityOf(&st)):
		return same
	case st.Mnt_id != t.mnt.id:
		return unknown
	}
	return other
}

// hidden tells a name that is not there from one that is below a mount.
func (x *index) hidden(p place) verdict {
	t := &x.trees[p.tree]
	for dir := p.path; ; {
		cut := strings.LastIndexByte(dir, '/')
		if cut < 0 {
			return other
		}
		dir = dir[:cut]
		var st unix.Statx_t
		err := unix.Statx(t.fd, dir, unix.AT_SYMLINK_NOFOLLOW|statxFlags, statxMask, &st)
		if err == nil && st.Mnt_id != t.mnt.id {
			return unknown
		}
		if err == nil {
			return other
		}
	}
}

// confirm keeps of the places where a file is by its path those where it is in
// fact. What was deleted cannot be confirmed and counts. doubt says that some
// path led into a tree and was not confirmed.
func (x *index) confirm(dev device, path string, is func(identity) bool) (found []place, doubt bool) {
	for _, p := range x.find(dev, path) {
		if x.compare(p, is) == other {
			doubt = true
			continue
		}
		found = append(found, p)
	}
	if found == nil && strings.HasSuffix(path, deletedMark) {
		found = x.find(dev, strings.TrimSuffix(path, deletedMark))
	}
	return found, doubt && found == nil
}

// search looks for a file whose path is known only from some mount on, which
// may be one of the tree or of its files.
func (x *index) search(tree int, path string, is func(identity) bool) (found []place) {
	for _, dir := range []string{"", "files"} {
		p := place{tree, relative(join(dir, strings.TrimLeft(path, "/")))}
		if x.compare(p, is) == same {
			found = append(found, p)
		}
	}
	return found
}
