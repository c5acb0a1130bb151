package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// workName is the directory of the destination in which the tree is made
	// before it is known what of it is files/.
	workName = ".unpacking"
	// maxPath is what Linux takes for a path, in bytes (PATH_MAX). Deeper
	// trees can be made, but hardly used or deleted.
	maxPath = 4096
	maxName = 255 // NAME_MAX
)

// A writer makes a tree of members. Directories are private and writable until
// the end, when they get the modes and times that their members have said.
type writer struct {
	ctx     context.Context
	opt     Options
	dst     int   // the destination
	work    *held // workName in it
	at      trail // to where members are made, below work
	from    trail // to where the targets of hard links are
	root    *node
	grain   time.Duration // of the times that the file system keeps
	newest  time.Time     // of all members
	count   int
	inside  bool // there is a member besides the tree itself
	size    int64
	dropped Dropped
	donors  *donors
	filler  *filler
	table   *tableCheck // or nil
}

// newWriter makes one whose workers stop everything by cancel when they fail.
func newWriter(ctx context.Context, cancel context.CancelCauseFunc, dst *os.File, opt Options) (_ *writer, err error) {
	if strings.ContainsAny(opt.LockFile, "/\x00") || opt.LockFile == "." || opt.LockFile == ".." {
		return nil, fmt.Errorf("the lock file's name %s is not one", strconv.Quote(opt.LockFile))
	}
	w := &writer{ctx: ctx, opt: opt, root: newDir()}
	w.dst, err = openDir(int(dst.Fd()), ".")
	runtime.KeepAlive(dst)
	if err != nil {
		return nil, failed("open", dst.Name(), err)
	}
	if err := makeDir(w.dst, workName); err != nil {
		unix.Close(w.dst)
		return nil, failed("make", workName, err)
	}
	work, err := openDir(w.dst, workName)
	if err != nil {
		unix.Close(w.dst)
		return nil, failed("open", workName, err)
	}
	if w.grain, err = grainOf(w.dst, workName); err != nil {
		unix.Close(work)
		unix.Close(w.dst)
		return nil, failed("set the time of", workName, err)
	}
	w.work = hold(work)
	w.at.root, w.from.root = w.work, w.work
	if w.donors, err = newDonors(opt.Donors, work, opt.LockFile, opt.VerifyDonors); err != nil {
		w.work.leave()
		unix.Close(w.dst)
		return nil, err
	}
	if w.table, err = newTableCheck(opt.Whole, opt.MaxMembers); err != nil {
		w.donors.close()
		w.work.leave()
		unix.Close(w.dst)
		return nil, err
	}
	w.filler = newFiller(ctx, cancel, w.donors, opt.WriteBack)
	return w, nil
}

func (w *writer) close() {
	w.filler.stop()
	w.donors.close()
	w.at.cut(0)
	w.from.cut(0)
	w.work.leave()
	unix.Close(w.dst)
}

// failed is an error of a file system: neither the archive's fault nor refused.
func failed(op, path string, err error) error {
	return fmt.Errorf("%s %s: %w", op, strconv.Quote(path), err)
}

// write makes all members.
func (w *writer) write(src members) error {
	err := w.members(src)
	if err == nil {
		err = w.filler.wait()
	}
	if err == nil && w.table != nil {
		err = w.table.done()
	}
	if err == nil {
		return nil
	}
	// What stopped the reading may be what a worker has met.
	if own := w.filler.err(); own != nil {
		return own
	}
	return err
}

func (w *writer) members(src members) error {
	for {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		h, err := src.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		err = w.member(h, src)
		if err == nil && w.table != nil {
			err = w.table.member(h, w)
		}
		if err != nil {
			named := (*MemberError)(nil)
			theirs := errors.Is(err, ErrUnsafe) || errors.Is(err, ErrFormat) || errors.Is(err, ErrTooBig)
			if theirs && !errors.As(err, &named) {
				return &MemberError{h.Name, err}
			}
			return err
		}
	}
}

func (w *writer) member(h *tar.Header, content io.Reader) error {
	if w.count++; w.opt.MaxMembers > 0 && w.count > w.opt.MaxMembers {
		return fmt.Errorf("%w: more than %d members", ErrTooBig, w.opt.MaxMembers)
	}
	parts, err := split(h.Name)
	if err != nil {
		return err
	}
	w.inside = w.inside || len(parts) > 0
	if h.Typeflag == tar.TypeDir {
		return w.directory(h, parts)
	}
	if len(parts) == 0 {
		return fmt.Errorf("%w: the tree itself is no directory", ErrFormat)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return w.regular(h, parts, content)
	case tar.TypeSymlink:
		return w.symlink(h, parts)
	case tar.TypeLink:
		return w.hardLink(h, parts)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return w.drop(parts)
	}
	return fmt.Errorf("%w: members of type %q are not known", ErrFormat, h.Typeflag)
}

// split takes a member's name apart. "./a//b/" is a and b, as for tar; "" and
// "." are the tree itself.
func split(name string) ([]string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, fmt.Errorf("%w: the name has a zero byte", ErrUnsafe)
	}
	if strings.HasPrefix(name, "/") {
		return nil, fmt.Errorf("%w: the name is absolute", ErrUnsafe)
	}
	if len(name) > maxPath+len("./") {
		return nil, fmt.Errorf("%w: a name of %d bytes", ErrTooBig, len(name))
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return nil, fmt.Errorf(`%w: the name has ".."`, ErrUnsafe)
		case len(part) > maxName:
			return nil, fmt.Errorf("%w: a name of %d bytes", ErrTooBig, len(part))
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// enter goes to a directory of the tree and makes it if need be, with those
// above it.
func (w *writer) enter(parts []string) (*node, *held, error) {
	n := w.root
	for i, part := range parts {
		child := n.children[part]
		if child == nil {
			fd, err := w.at.cd(parts[:i])
			if err == nil {
				err = makeDir(fd, part)
			}
			if err != nil {
				return nil, nil, failed("make", strings.Join(parts[:i+1], "/"), err)
			}
			child = newDir()
			n.children[part] = child
		}
		if err := child.passable(parts[:i+1]); err != nil {
			return nil, nil, err
		}
		n = child
	}
	at, err := w.at.enter(parts)
	if err != nil {
		return nil, nil, failed("open", strings.Join(parts, "/"), err)
	}
	return n, at, nil
}

// makeDir makes a directory that is ours alone, whatever the umask.
func makeDir(at int, name string) error {
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return err
	}
	return unix.Fchmodat(at, name, 0o700, 0)
}

func (w *writer) directory(h *tar.Header, parts []string) error {
	if existing, err := w.root.find(parts); err != nil {
		return err
	} else if existing != nil && existing.inode.kind != directory {
		return fmt.Errorf("%w: a directory in place of something else", ErrFormat)
	}
	n, at, err := w.enter(parts)
	if err != nil {
		return err
	}
	n.inode.mode, n.inode.time, n.inode.timed = w.mode(h), w.time(h), true
	unkept, err := setXattrs(at.fd, h.Name, w.xattrs(h))
	w.dropped.Xattrs += unkept
	return err
}

// vacate makes room for a member that is no directory. It returns the
// directory's node and the directory, and the member's own name.
func (w *writer) vacate(parts []string) (dir *node, at *held, name string, err error) {
	last := len(parts) - 1
	name = parts[last]
	if dir, at, err = w.enter(parts[:last]); err != nil {
		return nil, nil, "", err
	}
	old := dir.children[name]
	if old == nil {
		return dir, at, name, nil
	}
	switch old.inode.kind {
	case directory:
		return nil, nil, "", fmt.Errorf("%w: something else in place of a directory", ErrFormat)
	case regular, symlink:
		if err := w.filler.wait(); err != nil { // it may not be there yet
			return nil, nil, "", err
		}
		if err := unix.Unlinkat(at.fd, name, 0); err != nil {
			return nil, nil, "", failed("replace", strings.Join(parts, "/"), err)
		}
	}
	old.inode.names--
	delete(dir.children, name)
	return dir, at, name, nil
}

func (w *writer) symlink(h *tar.Header, parts []string) error {
	switch {
	case strings.IndexByte(h.Linkname, 0) >= 0:
		return fmt.Errorf("%w: the target has a zero byte", ErrUnsafe)
	case h.Linkname == "":
		return fmt.Errorf("%w: a symbolic link to nothing", ErrFormat)
	case len(h.Linkname) >= maxPath:
		return fmt.Errorf("%w: a target of %d bytes", ErrTooBig, len(h.Linkname))
	}
	dir, at, name, err := w.vacate(parts)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(h.Linkname, at.fd, name); err != nil {
		return failed("make", h.Name, err)
	}
	i := &inode{kind: symlink, mode: 0o777, target: h.Linkname, names: 1}
	if i.time, err = setTime(at.fd, name, w.time(h)); err != nil {
		return failed("set the time of", h.Name, err)
	}
	dir.children[name] = &node{inode: i}
	return nil
}

// hardLink gives one more name to a file or symbolic link of the tree. As with
// tar, the mode and time of the member say nothing.
func (w *writer) hardLink(h *tar.Header, parts []string) error {
	target, err := split(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", strconv.Quote(h.Linkname), err)
	}
	old, err := w.root.find(target)
	switch {
	case err != nil:
		return fmt.Errorf("hard link to %s: %w", strconv.Quote(h.Linkname), err)
	case old == nil:
		return fmt.Errorf("%w: hard link to %s, which is not there", ErrUnsafe, strconv.Quote(h.Linkname))
	case old.inode.kind == directory:
		return fmt.Errorf("%w: hard link to the directory %s", ErrUnsafe, strconv.Quote(h.Linkname))
	case old.inode.kind == dropped:
		return w.drop(parts)
	}
	if there, err := w.root.find(parts); err == nil && there != nil && there.inode == old.inode {
		return nil
	}
	dir, at, name, err := w.vacate(parts)
	if err != nil {
		return err
	}
	if old.inode.kind == regular {
		if err := w.filler.wait(); err != nil { // it may not be there yet
			return err
		}
	}
	last := len(target) - 1
	from, err := w.from.cd(target[:last])
	if err == nil {
		err = unix.Linkat(from, target[last], at.fd, name, 0)
	}
	if err != nil {
		return failed("link", h.Name, err)
	}
	old.inode.names++
	dir.children[name] = &node{inode: old.inode}
	return nil
}

// drop leaves a device, fifo or socket out, but remembers its name.
func (w *writer) drop(parts []string) error {
	dir, _, name, err := w.vacate(parts)
	if err != nil {
		return err
	}
	w.dropped.Nodes++
	dir.children[name] = &node{inode: &inode{kind: dropped, names: 1}}
	return nil
}

// mode is what of a member's mode is kept. Lock files further down are for
// their owner to lock.
func (w *writer) mode(h *tar.Header) uint32 {
	if h.Mode&0o6000 != 0 {
		w.dropped.SetID++
	}
	mode := uint32(h.Mode & 0o1777)
	if h.Typeflag != tar.TypeDir && path.Base(h.Name) == w.opt.LockFile {
		mode |= 0o600
	}
	return mode
}

func (w *writer) time(h *tar.Header) time.Time {
	t := h.ModTime.UTC().Truncate(w.grain)
	if t.After(w.newest) {
		w.newest = t
	}
	return t
}
