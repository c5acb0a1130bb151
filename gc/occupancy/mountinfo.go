package occupancy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// device is the number of a file system: of its superblock, as mountinfo,
// maps and /proc/locks show it. The st_dev of stat(2) is another one where a
// file system gives its parts numbers of their own, as btrfs does.
type device struct{ major, minor uint32 }

// mount is one line of a proc_pid_mountinfo(5).
type mount struct {
	id     uint64 // of all mounts of the machine, until it is unmounted
	parent uint64 // the mount that it is mounted on
	dev    device
	root   string // what of the file system is mounted: a path in it
	point  string // where, as the links in /proc spell it
	fstype string
	super  string // the options of the file system, commas and escapes included
}

var errMountinfo = errors.New("is no mountinfo")

// parseMountinfo is strict: what it does not understand could be the mount
// that matters.
func parseMountinfo(text string) ([]*mount, error) {
	var mounts []*mount
	for line := range strings.Lines(text) {
		m, err := parseMount(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s %w", strconv.Quote(line), err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// parseMount reads
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//
// whose source, the last but one, may be empty.
func parseMount(line string) (*mount, error) {
	fields := strings.Split(line, " ")
	if len(fields) < 10 {
		return nil, errMountinfo
	}
	dash := 6
	for dash < len(fields) && fields[dash] != "-" {
		dash++
	}
	if len(fields) != dash+4 {
		return nil, errMountinfo
	}
	id, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return nil, errMountinfo
	}
	parent, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return nil, errMountinfo
	}
	dev, err := parseDevice(fields[2], 10)
	if err != nil {
		return nil, err
	}
	m := &mount{id: id, parent: parent, dev: dev, fstype: fields[dash+1]}
	for _, f := range []struct {
		to   *string
		from string
	}{{&m.root, fields[3]}, {&m.point, fields[4]}, {&m.super, fields[dash+3]}} {
		if *f.to, err = unescape(f.from); err != nil {
			return nil, err
		}
	}
	// A directory that was removed while it is mounted has this at its end.
	m.root = strings.TrimSuffix(m.root, "//deleted")
	return m, nil
}

func parseDevice(text string, base int) (device, error) {
	major, minor, ok := strings.Cut(text, ":")
	a, err1 := strconv.ParseUint(major, base, 32)
	b, err2 := strconv.ParseUint(minor, base, 32)
	if !ok || err1 != nil || err2 != nil {
		return device{}, errMountinfo
	}
	return device{uint32(a), uint32(b)}, nil
}

// unescape undoes the \ooo that the kernel writes for blanks and backslashes.
func unescape(text string) (string, error) {
	if strings.IndexByte(text, '\\') < 0 {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if len(text) < i+4 {
			return "", errMountinfo
		}
		c, err := strconv.ParseUint(text[i+1:i+4], 8, 8)
		if err != nil {
			return "", errMountinfo
		}
		b.WriteByte(byte(c))
		i += 3
	}
	return b.String(), nil
}

// inside translates a path as a link in /proc spells it into the path in the
// mounted file system. It fails if the path is not below the mount point.
func (m *mount) inside(text string) (path string, ok bool) {
	rest, ok := below(text, m.point)
	if !ok {
		return "", false
	}
	return join(m.root, rest), true
}

// below cuts the directory off a path that is it or below it.
func below(path, dir string) (rest string, ok bool) {
	if dir == "/" {
		return strings.TrimPrefix(path, "/"), strings.HasPrefix(path, "/")
	}
	rest, ok = strings.CutPrefix(path, dir)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}

func join(dir, rest string) string {
	switch {
	case rest == "":
		return dir
	case dir == "/":
		return "/" + rest
	}
	return dir + "/" + rest
}

// namespace is what is known of the mounts of one mount namespace.
type namespace struct {
	mounts []*mount
	at     map[string][]*mount // by mount point
	whole  bool                // and not only what is below some chroot
	used   []place             // parts of trees that are mounted, one a tree
	roots  map[string]bool     // of the processes that told of it
}

func (n *namespace) add(mounts ...*mount) {
	if n.at == nil {
		n.at = map[string][]*mount{}
	}
	for _, m := range mounts {
		n.mounts = append(n.mounts, m)
		n.at[m.point] = append(n.at[m.point], m)
	}
}

func (n *namespace) has(id uint64) bool {
	return slices.ContainsFunc(n.mounts, func(m *mount) bool { return m.id == id })
}

// over lists the mounts on whose mount points or below them the path is, the
// nearest first, of several on one point the uppermost first.
func (n *namespace) over(path string) []*mount {
	if n == nil {
		return nil
	}
	var found []*mount
	for end := len(path); end > 0; {
		here := n.at[path[:end]]
		for i := len(here) - 1; i >= 0; i-- {
			found = append(found, here[i])
		}
		end = strings.LastIndexByte(path[:end], '/')
	}
	if path != "/" {
		root := n.at["/"]
		for i := len(root) - 1; i >= 0; i-- {
			found = append(found, root[i])
		}
	}
	return found
}
