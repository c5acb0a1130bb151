package occupancy

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/store"
)

// object is what one of the links of a process leads to.
type object struct {
	link    string // its path, from the root of the namespace that its mount is in
	mount   uint64
	id      identity
	regular bool
}

// remote are file systems whose server may not answer. Other FUSE file systems
// are looked at by prefix.
func remote(fstype string) bool {
	switch fstype {
	case "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "afs", "gfs2", "ocfs2", "virtiofs", "fuse.sshfs":
		return true
	}
	return false
}

// object follows a link. It fails with ENOENT for what is no file, and for
// what is on a file system that has no tree and whose server might let us wait.
func (w *worker) object(dir int, name string, s *seen) (o object, err error) {
	o.link, err = readlink(dir, name, w.link)
	long := errors.Is(err, unix.ENAMETOOLONG)
	if err != nil && !long {
		return o, err
	}
	if !long && !w.worthwhile(dir, name, o.link, s) {
		return o, unix.ENOENT
	}
	var st unix.Statx_t
	if err := unix.Statx(dir, name, statxFlags, statxMask, &st); err != nil {
		return o, err
	}
	o.mount, o.id = st.Mnt_id, identityOf(&st)
	o.regular = st.Mode&unix.S_IFMT == unix.S_IFREG
	return o, nil
}

// worthwhile tells whether a link may lead into a tree.
func (w *worker) worthwhile(dir int, name, link string, s *seen) bool {
	switch {
	case !strings.HasPrefix(link, "/"): // a socket, a pipe
		return false
	case link == "/dev/null", strings.HasPrefix(link, "/dev/pts/"):
		return false // no tree has devices
	}
	if over := s.space.over(link); len(over) > 0 {
		top := over[0]
		return w.index.on(top.dev) || !slow(top) || w.below(dir, name, top)
	}
	return true
}

// slow tells whether a server may not answer who asks for a file.
func slow(m *mount) bool { return remote(m.fstype) || strings.HasPrefix(m.fstype, "fuse") }

// below tells whether an object whose path is on a slow mount is on another
// one: that has been mounted over it, or where it is spelled so in another
// namespace. It asks the kernel alone.
func (w *worker) below(dir int, name string, over *mount) bool {
	id, ok := w.mountID(dir, name)
	if !ok && !strings.HasPrefix(over.fstype, "fuse") {
		return false // even to follow the link asks the server
	}
	if !ok {
		// Nothing but the mount is asked for. More, FUSE would not tell us.
		var st unix.Statx_t
		if unix.Statx(dir, name, statxFlags, 0, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
			return false
		}
		id = st.Mnt_id
	}
	m := w.spaces.mount(id)
	return m == nil || !slow(m)
}

// mountID reads the mount of a descriptor, name in /proc/PID/fd.
func (w *worker) mountID(dir int, name string) (id uint64, ok bool) {
	if _, ok := decimal([]byte(name)); !ok {
		return 0, false
	}
	text, err := readFile(dir, "../fdinfo/"+name, &w.file)
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(text), "mnt_id:\t")
	line, _, _ := strings.Cut(rest, "\n")
	id, err = strconv.ParseUint(line, 10, 64)
	return id, err == nil
}

// elsewhere is the namespace whose paths are tried beside the process's own:
// what it had open or mapped before it got one of its own is still spelled so.
func (w *worker) elsewhere(s *seen) *namespace {
	if s.namespace == w.own {
		return nil
	}
	return w.spaces.get(w.own)
}

// places finds the trees that an object is in, which the process uses so.
func (w *worker) places(o object, how store.How, s *seen) answer {
	is := func(id identity) bool { return id == o.id }
	if m := w.spaces.mount(o.mount); m != nil {
		if !w.index.on(m.dev) {
			return answer{}
		}
		if inner, ok := m.inside(o.link); ok {
			places, doubt := w.index.confirm(m.dev, inner, is)
			return answer{places, doubt}
		}
	}
	// Nobody shows the mount: it was unmounted while in use, is outside the
	// chroot of everybody in its namespace, or is not seen yet.
	if w.index.byStat[o.id.dev] == nil {
		return answer{}
	}
	for _, m := range append(s.space.over(o.link), w.elsewhere(s).over(o.link)...) {
		if inner, ok := m.inside(o.link); ok {
			if places, _ := w.index.confirm(m.dev, inner, is); places != nil {
				return answer{places: places}
			}
		}
	}
	var a answer
	for _, i := range w.index.byStat[o.id.dev] {
		a.places = append(a.places, w.index.search(i, o.link, is)...)
	}
	if a.places == nil && !ours(o) {
		s.lose(lost{how: how, stat: o.id.dev, ino: o.id.ino})
		a.again = true
	}
	return a
}

// ours tells whether the object has the same path in our own namespace. Then
// that path has been compared with the trees already.
func ours(o object) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, o.link, unix.AT_SYMLINK_NOFOLLOW|statxFlags, statxMask, &st)
	return err == nil && identityOf(&st) == o.id
}

// single looks at a link of which a process has one.
func (w *worker) single(dir int, name string, how store.How, s *seen) error {
	o, err := w.object(dir, name, s)
	if err != nil {
		// On its way out, or its first thread is, before others.
		s.again = s.again || gone(err)
		return w.failed(err, s)
	}
	s.note(how, w.places(o, how, s))
	return nil
}

// threads looks at the root and working directories of threads that do not
// share those of the first (CLONE_FS of clone(2)).
func (w *worker) threads(process int, s *seen) error {
	all, err := numbers(process, "task", w.entries)
	if err != nil {
		return w.failed(err, s)
	}
	if len(all) < 2 {
		return nil
	}
	for _, link := range []struct {
		name string
		how  store.How
	}{{"root", store.ByRoot}, {"cwd", store.ByCwd}} {
		first, err := readlink(process, link.name, w.link)
		if err != nil {
			continue // has been looked at
		}
		for _, tid := range all {
			name := "task/" + strconv.Itoa(tid) + "/" + link.name
			own, err := readlink(process, name, w.link)
			if err != nil || own == first {
				continue
			}
			if err := w.single(process, name, link.how, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// descriptors looks at what the process has open.
func (w *worker) descriptors(process int, s *seen) error {
	fds, err := numbers(process, "fd", w.entries)
	if err != nil {
		return w.failed(err, s)
	}
	if len(fds) == 0 {
		return nil
	}
	dir, err := unix.Openat(process, "fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return w.failed(err, s)
	}
	defer unix.Close(dir)
	for _, fd := range fds {
		o, err := w.object(dir, strconv.Itoa(fd), s)
		if err != nil {
			if err := w.failed(err, s); err != nil {
				return err
			}
			continue
		}
		a := w.places(o, store.ByFD, s)
		if len(a.places) == 0 {
			s.note(store.ByFD, a)
			continue
		}
		w.open(process, fd, o, a, s)
	}
	return nil
}

// open notes an open file. A lock file is apart: with a lock it is a holder's,
// and without it may be that of somebody who only tries to lock it.
func (w *worker) open(process, fd int, o object, a answer, s *seen) {
	s.again = s.again || a.again
	locked := 0 // not asked yet
	for _, p := range a.places {
		isRef := path.Base(p.path) == refFile
		switch {
		case isRef && o.regular:
			if locked == 0 {
				locked = -1
				if w.locked(process, fd) {
					locked = 1
				}
			}
			if locked > 0 {
				s.add(store.ByLock, p, true)
			} else {
				s.add(store.ByFD, p, true)
			}
		case isRef: // a directory of that name must not pass for a lock file
			s.add(store.ByFD, place{p.tree, p.path + "/."}, false)
		default:
			s.add(store.ByFD, p, false)
		}
	}
}
