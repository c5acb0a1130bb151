package occupancy

import (
	"bytes"
	"cmp"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/store"
)

// mapped is what the lines of a proc_pid_maps(5) that name one file say of it.
// No mount is among it.
type mapped struct {
	dev  device
	ino  uint64
	path string
}

// mappedFile cuts a line into the range of addresses and the part that names
// the file: its device, inode and path. It fails for memory without a file.
//
//	7f1ec2a00000-7f1ec2a28000 r--p 00000000 08:01 1835041      /usr/lib/libc.so.6
func mappedFile(line []byte) (addresses, part []byte, ok bool) {
	addresses, part, _ = bytes.Cut(line, []byte(" "))
	for range 2 {
		if _, part, ok = bytes.Cut(part, []byte(" ")); !ok {
			return nil, nil, false
		}
	}
	return addresses, part, bytes.IndexByte(part, '/') >= 0
}

// link is the name in map_files of the range of a line in maps, where the
// addresses are padded with zeros.
func link(addresses []byte) string {
	from, to, _ := strings.Cut(string(addresses), "-")
	trim := func(a string) string { return cmp.Or(strings.TrimLeft(a, "0"), "0") }
	return "map_files/" + trim(from) + "-" + trim(to)
}

func parseMapped(part string) (m mapped, ok bool) {
	dev, rest, _ := strings.Cut(part, " ")
	ino, path, _ := strings.Cut(rest, " ")
	m.path = strings.TrimLeft(path, " ")
	var err1, err2 error
	m.dev, err1 = parseDevice(dev, 16)
	m.ino, err2 = strconv.ParseUint(ino, 10, 64)
	return m, err1 == nil && err2 == nil && strings.HasPrefix(m.path, "/")
}

// spellings are the paths that a path in maps can stand for: the kernel writes
// \012 for a newline and does nothing about a backslash.
func spellings(path string) []string {
	if !strings.Contains(path, `\012`) {
		return []string{path}
	}
	return []string{strings.ReplaceAll(path, `\012`, "\n"), path}
}

// answer is what the look at one object found.
type answer struct {
	places []place
	again  bool // it was about to change, or is on a mount that nobody shows
}

// maps finds what of the trees the process maps. The answers are kept for
// other processes of the namespace, which map the same libraries.
func (w *worker) maps(dir int, s *seen) error {
	text, err := readFile(dir, "maps", &w.file)
	if err != nil {
		return w.failed(err, s)
	}
	known := w.mapped[s.namespace]
	if known == nil {
		known = map[string]answer{}
		w.mapped[s.namespace] = known
	}
	var last []byte
	for line := range bytes.Lines(text) {
		addresses, part, ok := mappedFile(bytes.TrimSuffix(line, []byte("\n")))
		if !ok || bytes.Equal(part, last) {
			continue
		}
		last = part
		a, ok := known[string(part)]
		if !ok {
			var placed bool
			if a, placed = w.mappedPlaces(string(part), s); placed {
				known[string(part)] = a
			} else if a, err = w.mappedObject(dir, link(addresses), string(part), s); err != nil {
				return err
			}
		}
		s.note(store.ByMap, a)
	}
	return nil
}

// mappedPlaces finds the trees that a mapped file is in by what maps says. If
// its path does not lead to it, through no mount of the namespace, it is not
// placed: the mount may be gone, or another namespace's.
func (w *worker) mappedPlaces(part string, s *seen) (a answer, placed bool) {
	m, ok := parseMapped(part)
	if !ok || !w.index.on(m.dev) && !w.overlay {
		return a, true
	}
	paths := spellings(m.path)
	var mixture []place // where a spelling leads that is not quite the name
	for _, spelled := range paths {
		for _, mnt := range append(s.space.over(spelled), w.elsewhere(s).over(spelled)...) {
			overlay := mnt.fstype == "overlay"
			if mnt.dev != m.dev && !overlay || !w.index.on(mnt.dev) {
				continue
			}
			inner, _ := mnt.inside(spelled)
			// Kernels before 6.8 show the number that a file of an overlay has
			// below it. There is nothing to compare it with.
			places, doubt := w.index.confirm(mnt.dev, inner, func(id identity) bool { return overlay || id.ino == m.ino })
			if places != nil {
				return answer{places: places}, true
			}
			if doubt && len(paths) > 1 {
				mixture = w.index.find(mnt.dev, inner)
			}
			placed = placed || !doubt && w.shows(mnt.dev, inner, m)
		}
	}
	if mixture != nil {
		return answer{places: mixture}, true
	}
	return a, placed || !w.index.on(m.dev)
}

// shows tells whether a path in a file system is that of the mapped file, seen
// through our own mounts. Of a deleted file its directory has to do.
func (w *worker) shows(dev device, inner string, m mapped) bool {
	deleted := strings.HasSuffix(m.path, deletedMark)
	for _, mnt := range w.spaces.get(w.own).mounts {
		if mnt.dev != dev {
			continue
		}
		rest, ok := below(inner, mnt.root)
		if !ok {
			continue
		}
		name := join(mnt.point, rest)
		var st unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW|statxFlags, statxMask, &st)
		if err == nil && st.Mnt_id == mnt.id && st.Ino == m.ino {
			return true
		}
		if !deleted {
			continue
		}
		err = unix.Statx(unix.AT_FDCWD, path.Dir(name), unix.AT_SYMLINK_NOFOLLOW|statxFlags, statxMask, &st)
		if err == nil && st.Mnt_id == mnt.id {
			return true
		}
	}
	return false
}

// mappedObject asks for the mount of a mapped file. That takes more than the
// right to read maps: CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN above all user
// namespaces. Without it, the file is looked for in the trees alone.
func (w *worker) mappedObject(dir int, name, part string, s *seen) (a answer, err error) {
	o, err := w.object(dir, name, s)
	if err == nil {
		return w.places(o, store.ByMap, s), nil
	}
	if gone(err) {
		return answer{again: true}, nil // it has been unmapped
	}
	if !refused(err) {
		return a, err
	}
	m, _ := parseMapped(part)
	for i, t := range w.index.trees {
		if t.mnt.dev == m.dev {
			a.places = append(a.places, w.index.search(i, m.path, func(id identity) bool { return id.ino == m.ino })...)
		}
	}
	if a.places == nil {
		s.lose(lost{how: store.ByMap, dev: m.dev, ino: m.ino})
		a.again = true
	}
	return a, nil
}
