package occupancy

import (
	"bytes"
	"strconv"
	"strings"

	"berth/store"
)

// mapped is what the lines of a proc_pid_maps(5) that name one file say of it.
// No mount is among it.
type mapped struct {
	dev  device
	ino  uint64
	path string
}

// mappedFile cuts the part of a line that names the file: its device, inode
// and path. It fails for memory without a file.
//
//	7f1ec2a00000-7f1ec2a28000 r--p 00000000 08:01 1835041      /usr/lib/libc.so.6
func mappedFile(line []byte) (part []byte, ok bool) {
	for range 3 {
		i := bytes.IndexByte(line, ' ')
		if i < 0 {
			return nil, false
		}
		line = line[i+1:]
	}
	return line, bytes.IndexByte(line, '/') >= 0
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
		part, ok := mappedFile(bytes.TrimSuffix(line, []byte("\n")))
		if !ok || bytes.Equal(part, last) {
			continue
		}
		last = part
		a, ok := known[string(part)]
		if !ok {
			a = w.mappedPlaces(string(part), s)
			if !a.again {
				known[string(part)] = a
			}
		}
		s.note(store.ByMap, a)
	}
	return nil
}

func (w *worker) mappedPlaces(part string, s *seen) (a answer) {
	m, ok := parseMapped(part)
	if !ok || !w.index.on(m.dev) && !w.overlay {
		return a
	}
	paths := spellings(m.path)
	onTree := false     // some mount over the path is of a tree's file system
	var mixture []place // where a spelling leads that is not quite the name
	for _, path := range paths {
		for _, mnt := range append(s.space.over(path), w.elsewhere(s).over(path)...) {
			overlay := mnt.fstype == "overlay"
			if mnt.dev != m.dev && !overlay || !w.index.on(mnt.dev) {
				continue
			}
			onTree = true
			inner, _ := mnt.inside(path)
			// Kernels before 6.8 show the number that a file of an overlay has
			// below it. There is nothing to compare it with.
			places, doubt := w.index.confirm(mnt.dev, inner, func(id identity) bool { return overlay || id.ino == m.ino })
			if places != nil {
				return answer{places: places}
			}
			if doubt && len(paths) > 1 {
				mixture = w.index.find(mnt.dev, inner)
			}
			a.again = a.again || doubt
		}
	}
	if mixture != nil {
		return answer{places: mixture}
	}
	if !onTree {
		for i, t := range w.index.trees {
			if t.mnt.dev == m.dev {
				a.places = append(a.places, w.index.search(i, m.path, func(id identity) bool { return id.ino == m.ino })...)
			}
		}
	}
	return a
}
