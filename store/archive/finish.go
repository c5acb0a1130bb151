package archive

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// finish gives the tree its shape, its lock file, and its directories their
// modes and times. The times come last, because moves and the lock file change
// them.
func (w *writer) finish() (*Tree, error) {
	s, err := shapeOf(w.root)
	if err != nil {
		return nil, err
	}
	if !w.inside {
		return nil, fmt.Errorf("%w: no members", ErrFormat)
	}
	if w.newest.IsZero() {
		w.newest = time.Unix(0, 0).UTC() // nothing but nodes
	}
	tree := &Tree{}
	if s.bare {
		err = w.moveBare()
	} else {
		err = w.move(&s, tree)
	}
	if err != nil {
		return nil, err
	}
	if err := w.ownLockFiles(&s, s.files, nil); err != nil {
		return nil, err
	}
	files, err := openDir(w.dst, filesName)
	if err != nil {
		return nil, failed("open", filesName, err)
	}
	root := hold(files)
	defer root.leave()
	if err := w.lockFile(files, &s); err != nil {
		return nil, err
	}
	// Its owner has to get at the lock file.
	s.files.inode.mode |= 0o500
	t := &trail{root: root}
	defer func() { t.cut(0) }()
	if err := w.seal(t, s.files, nil); err != nil {
		return nil, err
	}
	s.files.describe(tree)
	tree.Dropped = w.dropped
	tree.Dropped.Xattrs += int(w.filler.unkept.Load())
	if w.donors != nil {
		tree.Changed = w.donors.changed
	}
	return tree, nil
}

func (w *writer) moveBare() error {
	w.at.cut(0)
	w.from.cut(0)
	if err := unix.Renameat(w.dst, workName, w.dst, filesName); err != nil {
		return failed("move", workName, err)
	}
	return nil
}

func (w *writer) move(s *shape, tree *Tree) error {
	w.from.cut(0)
	fd, err := w.at.cd(s.dir)
	if err != nil {
		return failed("open", strings.Join(s.dir, "/"), err)
	}
	dir, err := w.root.find(s.dir)
	if err != nil {
		return err
	}
	if err := unix.Renameat(fd, filesName, w.dst, filesName); err != nil {
		return failed("move", filesName, err)
	}
	delete(dir.children, filesName)
	if s.metadata != nil {
		if tree.Metadata, err = w.copyMetadata(fd, s); err != nil {
			return err
		}
	}
	for _, child := range dir.children {
		if child != s.metadata && child.inode.kind != dropped {
			w.dropped.Beside++
		}
	}
	if err := w.remove(w.root, nil); err != nil {
		return err
	}
	w.at.cut(0)
	if err := unix.Unlinkat(w.dst, workName, unix.AT_REMOVEDIR); err != nil {
		return failed("remove", workName, err)
	}
	return nil
}

// copyMetadata makes a file of its own, so that whatever other names the
// member had, nobody can change it by those.
func (w *writer) copyMetadata(fd int, s *shape) ([]byte, error) {
	path := strings.Join(append(s.dir, metadataName), "/")
	if s.metadata.inode.size > maxMetadata {
		return nil, &MemberError{path, fmt.Errorf("%w: more than %d bytes", ErrTooBig, maxMetadata)}
	}
	in, err := openAt(fd, metadataName, unix.O_RDONLY, 0)
	if err == unix.EACCES {
		if err := unix.Fchmodat(fd, metadataName, 0o600, 0); err != nil {
			return nil, failed("read", path, err)
		}
		in, err = openAt(fd, metadataName, unix.O_RDONLY, 0)
	}
	if err != nil {
		return nil, failed("read", path, err)
	}
	f := os.NewFile(uintptr(in), path)
	text := make([]byte, s.metadata.inode.size)
	_, err = io.ReadFull(f, text)
	if err == nil && s.metadata.inode.mode&0o400 == 0 {
		// A file of files/ may be the same inode.
		err = unix.Fchmod(in, s.metadata.inode.mode)
	}
	f.Close()
	if err != nil {
		return nil, failed("read", path, err)
	}
	_, err = makeFile(w.dst, metadataName, text, s.metadata.inode.time)
	return text, err
}

// makeFile makes a small file of mode 0644, whatever the umask.
func makeFile(at int, name string, text []byte, t time.Time) (time.Time, error) {
	fd, err := openAt(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return t, failed("make", name, err)
	}
	err = writeAt(fd, text, 0)
	if err == nil {
		err = unix.Fchmod(fd, 0o644)
	}
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err == nil {
		t, err = setTime(at, name, t)
	}
	if err != nil {
		return t, failed("make", name, err)
	}
	return t, nil
}

// remove deletes what is below a directory of the working tree.
func (w *writer) remove(n *node, parts []string) error {
	for name, child := range n.children {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		flags := 0
		switch child.inode.kind {
		case dropped:
			continue
		case directory:
			flags = unix.AT_REMOVEDIR
			if err := w.remove(child, append(parts, name)); err != nil {
				return err
			}
		}
		fd, err := w.at.cd(parts)
		if err == nil {
			err = unix.Unlinkat(fd, name, flags)
		}
		if err != nil {
			return failed("remove", strings.Join(append(parts, name), "/"), err)
		}
	}
	return nil
}

// lockFile makes the lock file. A lock is a lock on an inode, so that one that
// another name reaches too would let two runtimes hold each other.
func (w *writer) lockFile(files int, s *shape) error {
	name := w.opt.LockFile
	if name == "" {
		return nil
	}
	when := w.newest
	if old := s.files.children[name]; old != nil {
		refuse := func(why string) error {
			parts := s.dir
			if !s.bare {
				parts = append(parts, filesName)
			}
			return &MemberError{strings.Join(append(parts, name), "/"), fmt.Errorf("%w: the lock file is %s", ErrUnsafe, why)}
		}
		if old.inode.kind != regular {
			return refuse("no regular file")
		}
		if old.inode.names > 1 {
			return refuse("a hard link")
		}
		if err := unix.Unlinkat(files, name, 0); err != nil {
			return failed("replace", name, err)
		}
		when = old.inode.time
	}
	when, err := makeFile(files, name, nil, when)
	if err != nil {
		return err
	}
	s.files.children[name] = &node{inode: &inode{
		kind: regular, mode: 0o644, time: when, digest: sha256.Sum256(nil), names: 1,
	}}
	return nil
}

// ownLockFiles refuses lock files further down, which count too, that another
// name reaches and that are not empty: that name could be a donor's, or ask one.
func (w *writer) ownLockFiles(s *shape, n *node, parts []string) error {
	for name, child := range n.children {
		parts := append(slices.Clip(parts), name)
		if child.inode.kind == directory {
			if err := w.ownLockFiles(s, child, parts); err != nil {
				return err
			}
		} else if name == w.opt.LockFile && child.inode.names > 1 && child.inode.kind == regular && child.inode.size > 0 && len(parts) > 1 {
			path := slices.Concat(s.dir, parts)
			if !s.bare {
				path = slices.Concat(s.dir, []string{filesName}, parts)
			}
			return &MemberError{strings.Join(path, "/"), fmt.Errorf("%w: the lock file is a hard link", ErrUnsafe)}
		}
	}
	return nil
}

// seal gives directories their modes and times, the deepest first: a directory
// can be closed to us afterwards. One that no member describes is 0755 and as
// old as the newest member, so that the same archive always gives the same
// tree.
func (w *writer) seal(t *trail, n *node, parts []string) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	for name, child := range n.children {
		if child.inode.kind == directory {
			if err := w.seal(t, child, append(parts, name)); err != nil {
				return err
			}
		}
	}
	if !n.inode.timed {
		n.inode.time = w.newest
	}
	fd, err := t.cd(parts)
	if err == nil {
		err = unix.Fchmod(fd, n.inode.mode)
	}
	at, name := w.dst, filesName
	if last := len(parts) - 1; last >= 0 && err == nil {
		name = parts[last]
		at, err = t.cd(parts[:last])
	}
	if err == nil {
		n.inode.time, err = setTime(at, name, n.inode.time)
	}
	if err != nil {
		return failed("set mode and time of", strings.Join(append([]string{filesName}, parts...), "/"), err)
	}
	return nil
}
