package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errChanged says that a directory is being changed while it is copied.
var errChanged = errors.New("changed while it was read")

// A walk gives the members of a directory, as if tar had archived it: names
// sorted, each directory before what is in it.
type walk struct {
	root   *held
	dst    id // which must not be met
	at     trail
	stack  []level
	only   []string      // of the top level; nil: all
	linked map[id]string // the first names of what has several
	skip   bool          // leave out sockets, which tar has no type for
	socket int           // how many were left out
	read   func(int64)
	size   int64
	buf    []byte

	// The file that Next has returned.
	path   string
	file   int // -1: none
	before unix.Stat_t
	left   int64
}

// A level is a directory on the way down, and the names not yet visited.
type level struct {
	parts []string
	names []string
}

// An id tells files apart.
type id struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) id { return id{uint64(st.Dev), st.Ino} }

// openWalk begins a walk that must not meet the directory dst, if that is one.
func openWalk(src string, dst id, read func(int64)) (*walk, error) {
	w := &walk{file: -1, dst: dst, linked: make(map[id]string), read: read, buf: make([]byte, 64<<10)}
	root, err := -1, error(nil)
	err = retry(func() (err error) {
		root, err = unix.Open(src, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, failed("open", src, err)
	}
	w.root = hold(root)
	w.at.root = w.root
	return w, nil
}

func (w *walk) close() {
	if w.file >= 0 {
		unix.Close(w.file)
	}
	w.at.cut(0)
	w.root.leave()
}

func (w *walk) Next() (*tar.Header, error) {
	if err := w.endFile(); err != nil {
		return nil, err
	}
	if w.stack == nil {
		h, err := w.enter(nil)
		if err != nil || w.only == nil {
			return h, err
		}
		// The directory that holds these has a time of its own, which says
		// nothing of them.
	}
	for len(w.stack) > 0 {
		top := &w.stack[len(w.stack)-1]
		if len(top.names) > 0 {
			name := top.names[0]
			top.names = top.names[1:]
			if h, err := w.visit(top.parts, name); h != nil || err != nil {
				return h, err
			}
			continue
		}
		w.stack = w.stack[:len(w.stack)-1]
	}
	return nil, io.EOF
}

// Read gives the content of the file that Next has returned.
func (w *walk) Read(p []byte) (n int, err error) {
	if w.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), w.left)]
	err = retry(func() error {
		n, err = unix.Read(w.file, p)
		return err
	})
	if err == nil && n == 0 && len(p) > 0 {
		err = errChanged
	}
	if err != nil {
		return 0, failed("read", w.path, err)
	}
	w.left -= int64(n)
	w.size += int64(n)
	if w.read != nil {
		w.read(int64(n))
	}
	return n, nil
}

// endFile closes the file that was read and sees that it is still the same.
func (w *walk) endFile() error {
	if w.file < 0 {
		return nil
	}
	var after unix.Stat_t
	err := unix.Fstat(w.file, &after)
	unix.Close(w.file)
	w.file = -1
	if err == nil && (after.Size != w.before.Size || after.Mtim != w.before.Mtim) {
		err = errChanged
	}
	if err != nil {
		return failed("read", w.path, err)
	}
	return nil
}

// visit gives nil for a socket that is left out.
func (w *walk) visit(parts []string, name string) (*tar.Header, error) {
	parts = append(slices.Clip(parts), name)
	path := strings.Join(parts, "/")
	at, err := w.at.cd(parts[:len(parts)-1])
	if err != nil {
		return nil, failed("open", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, failed("look at", path, err)
	}
	h := header(path, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.enter(parts)
	case unix.S_IFREG, unix.S_IFLNK:
		if st.Nlink > 1 {
			if first, ok := w.linked[idOf(&st)]; ok {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
				return h, nil
			}
			w.linked[idOf(&st)] = path
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			h.Linkname, err = readLink(at, name, w.buf)
			if err != nil {
				err = failed("read", path, err)
			}
			return h, err
		}
		return w.openFile(at, name, path, &st)
	case unix.S_IFSOCK:
		if w.skip {
			w.socket++
			return nil, nil
		}
	}
	return h, nil
}

// enter opens a directory and reads its names.
func (w *walk) enter(parts []string) (*tar.Header, error) {
	path := "."
	if len(parts) > 0 {
		path = strings.Join(parts, "/")
	}
	fd, err := w.at.cd(parts)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return nil, failed("open", path, err)
	}
	if idOf(&st) == w.dst {
		return nil, &MemberError{path, fmt.Errorf("%w: the copy would be made inside itself", ErrUnsafe)}
	}
	names, err := readNames(fd, w.buf)
	if err != nil {
		return nil, failed("read", path, err)
	}
	if len(parts) == 0 && w.only != nil {
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(w.only, name) })
	}
	w.stack = append(w.stack, level{parts, names})
	h := header(path, &st)
	return h, w.readXattrs(fd, h)
}

func (w *walk) openFile(at int, name, path string, seen *unix.Stat_t) (*tar.Header, error) {
	// Should a fifo be there by now, opening it must not wait.
	fd, err := openAt(at, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, failed("open", path, err)
	}
	w.file, w.path = fd, path
	if err := unix.Fstat(fd, &w.before); err != nil {
		return nil, failed("look at", path, err)
	}
	if idOf(&w.before) != idOf(seen) {
		return nil, failed("read", path, errChanged)
	}
	w.left = w.before.Size
	h := header(path, &w.before)
	return h, w.readXattrs(fd, h)
}

// header describes a file as tar would.
func header(path string, st *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Name:    path,
		Mode:    int64(st.Mode & 0o7777),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
		if st.Blocks*512 < st.Size {
			h.Typeflag = tar.TypeGNUSparse
		}
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	default:
		h.Typeflag = tar.TypeFifo // and sockets
	}
	return h
}

func readNames(fd int, buf []byte) (names []string, err error) {
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Getdents(fd, buf)
			return err
		})
		if err != nil {
			return nil, err
		}
		if n == 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func readLink(at int, name string, buf []byte) (string, error) {
	n, err := unix.Readlinkat(at, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// readXattrs adds the extended attributes to a header. Those that cannot be
// kept need no value: they are only counted.
func (w *walk) readXattrs(fd int, h *tar.Header) error {
	n, err := unix.Flistxattr(fd, w.buf)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return failed("read the extended attributes of", h.Name, err)
	}
	h.PAXRecords = make(map[string]string)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(w.buf[:n]), "\x00"), "\x00") {
		h.PAXRecords[xattrKey+name] = ""
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		n, err := unix.Fgetxattr(fd, name, w.buf)
		if err != nil {
			return failed("read the extended attributes of", h.Name, err)
		}
		h.PAXRecords[xattrKey+name] = string(w.buf[:n])
	}
	return nil
}
