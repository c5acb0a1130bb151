package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"berth/lock"
)

const (
	// settleFor bounds the wait for those who have opened a .ref and not yet
	// locked it. They try at once; who has not by then does something else. Who
	// lists the store has closed the tree's directory by then.
	settleFor   = 2 * time.Second
	settlePause = 20 * time.Millisecond
)

// errNoLooker keeps everything in a store that was opened without a Looker.
var errNoLooker = errors.New("nothing tells who uses it")

// look asks who uses a tree, other than ourselves. bare are those whose use
// does not count alone: they have a file named .ref open and no lock on it, and
// may be about to lock it, or be another collector whose try has just failed;
// or they have the tree's own directory open, and may be listing the store, or
// about to go on from there.
func (s *Store) look(ctx context.Context, ref Ref, d dir) (uses, bare []Use, err error) {
	if s.opt.Looker == nil {
		return nil, nil, errNoLooker
	}
	sight, err := s.opt.Looker.Look(ctx, []Tree{treeOf(ref, d)})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot see who uses it: %w", err)
	}
	for _, u := range sight.Uses[0] {
		if u.Counts() {
			uses = append(uses, u)
		} else {
			bare = append(bare, u)
		}
	}
	if len(uses) > 0 {
		return uses, bare, nil
	}
	doubt, err := s.Doubt(sight.Blind)
	if err == nil && doubt != "" {
		err = &InUseError{Doubt: doubt}
	}
	return nil, bare, err
}

func treeOf(ref Ref, d dir) Tree {
	return Tree{Dir: d.File, Path: d.Name(), Names: []string{ref.Name + "/" + ref.Version, ref.Name + "/" + currentLink}}
}

// settle makes sure that nobody uses a condemned tree, or is about to, while
// its write lock is held. Programs that mount or open a tree before they lock
// it were there before the rename, or not at all: the path is gone.
//
// The error is an *InUseError with Trashed if somebody is there. The tree is
// then left where it is, whole: mounts and open files have followed it.
func (s *Store) settle(ctx context.Context, c *condemned) error {
	// pressure-vessel opens .ref, then locks it: its one try must fail while
	// we hold the lock.
	if err := s.lookUntilQuiet(ctx, c); err != nil {
		return err
	}
	if err := c.lockNested(ctx); err != nil {
		return err
	}
	if err := c.dir.checkNoMounts(); err != nil {
		return err
	}
	// bubblewrap mounts, then locks.
	return s.lookUntilQuiet(ctx, c)
}

// lookUntilQuiet looks until nobody has a .ref of the tree, or its directory,
// open. It gives up after settleFor, and at once when somebody uses the tree
// otherwise.
func (s *Store) lookUntilQuiet(ctx context.Context, c *condemned) error {
	for deadline := time.Now().Add(settleFor); ; {
		uses, bare, err := s.look(ctx, c.ref, c.dir)
		if err != nil {
			return inTrash(err)
		}
		if len(uses) > 0 {
			return &InUseError{Uses: append(uses, bare...), Trashed: true}
		}
		if len(bare) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return &InUseError{Uses: bare, Trashed: true}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settlePause):
		}
	}
}

// lockNested write-locks the other files named .ref in the tree: those of an
// extension's mount point, of an application, of a runtime inside a runtime.
func (c *condemned) lockNested(ctx context.Context) error {
	locked := make(map[fileID]bool)
	for _, f := range c.locks {
		st, err := fstat(f)
		if err != nil {
			return err
		}
		locked[idOf(&st)] = true
	}
	// A tree that is still listed, and about to be replaced, is not touched.
	open, openRef := dir.openSameMount, dir.openFile
	if c.name != "" {
		open, openRef = dir.openOwnDir, dir.openOwnFile
	}
	c.refDirs = nil
	return walkDirs(ctx, c.dir, ".", open, func(d dir, at string, list []fs.DirEntry) error {
		if !slices.ContainsFunc(list, isNestedRef) {
			return nil
		}
		c.refDirs = append(c.refDirs, at)
		f, err := openRef(d, refFile, unix.O_RDWR)
		if err != nil {
			return ignoreMissing(err)
		}
		st, err := checkRegular(f)
		if err != nil || locked[idOf(&st)] {
			// Another name of a file that is locked already: a second lock
			// on it would stand in our own way.
			f.Close()
			return err
		}
		c.locks = append(c.locks, f)
		locked[idOf(&st)] = true
		err = lock.Try(f, lock.Write)
		if errors.Is(err, lock.ErrBusy) {
			return &InUseError{Trashed: true}
		}
		return err
	})
}

func isNestedRef(e fs.DirEntry) bool { return e.Name() == refFile && e.Type().IsRegular() }

// walkDirs calls fn for a directory and all below it, parents first, with the
// path relative to where it began and the entries, sorted. It enters no
// symlink and no mount: open is openSameMount, or openOwnDir for what is to be
// deleted. What somebody else deletes meanwhile is left out.
func walkDirs(ctx context.Context, d dir, rel string, open func(dir, string) (dir, error), fn func(d dir, rel string, list []fs.DirEntry) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	list, err := d.entries()
	if err != nil {
		return ignoreMissing(err)
	}
	if err := fn(d, rel, list); err != nil {
		return err
	}
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		sub, err := open(d, e.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = walkDirs(ctx, sub, path.Join(rel, e.Name()), open, fn)
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// openOwnDir opens a directory of an unlisted tree on the same mount, also one
// whose mode forbids its owner to list it or to enter it: the mode is widened,
// and stays so, because who has no right to a directory cannot use the
// descriptor of it either. A mount point is EXDEV: what is mounted is not the
// store's.
func (d dir) openOwnDir(name string) (dir, error) {
	sub, err := d.openSameMount(name)
	if err == nil {
		if st, err := fstat(sub.File); err == nil && st.Mode&0o500 != 0o500 {
			_ = unix.Fchmod(int(sub.Fd()), st.Mode&0o7777|0o700) // what cannot be read will say so
		}
		return sub, nil
	}
	if !errors.Is(err, os.ErrPermission) {
		return sub, err
	}
	if d.widen(name, unix.S_IFDIR, 0o700) != nil {
		return dir{}, err
	}
	return d.openSameMount(name)
}

// openOwnFile does the same for a regular file.
func (d dir) openOwnFile(name string, flags int) (*os.File, error) {
	f, err := d.openFile(name, flags)
	if !errors.Is(err, os.ErrPermission) {
		return f, err
	}
	if d.widen(name, unix.S_IFREG, 0o600) != nil {
		return nil, err
	}
	return d.openFile(name, flags)
}

// widen adds bits to the mode of name, if it is of that kind. An archive can
// have a directory that everybody writes to, where another account exchanges
// what was looked at for a symlink, and fchmodat(2) follows one: so the file is
// opened first, for which O_PATH needs no right to it.
func (d dir) widen(name string, kind, bits uint32) error {
	fd, err := openat(d, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return d.fail("open", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return d.fail("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != kind {
		return d.fail("chmod", name, unix.ELOOP)
	}
	if kind == unix.S_IFREG && st.Nlink > 1 && st.Size > 0 { // and another version's, perhaps
		return d.fail("chmod", name, unix.EMLINK)
	}
	return d.fail("chmod", name, unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o7777|bits))
}

func (d dir) openSameMount(name string) (dir, error) {
	fd, err := unix.Openat2(int(d.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
	if err == unix.ENOSYS || err == unix.EPERM {
		return d.openSameDevice(name)
	}
	if err != nil {
		return dir{}, d.fail("open", name, err)
	}
	return dir{os.NewFile(uintptr(fd), d.path(name))}, nil
}

// openSameDevice serves where openat2 is not to be had: in containers whose
// system call filter does not know it. A mount from the same file system shows
// by its number alone.
func (d dir) openSameDevice(name string) (dir, error) {
	sub, err := d.openDir(name)
	if err != nil {
		return dir{}, err
	}
	outer, outerErr := mountOf(d)
	inner, innerErr := mountOf(sub)
	if err := errors.Join(outerErr, innerErr); err != nil {
		sub.Close()
		return dir{}, err
	}
	if outer != inner {
		sub.Close()
		return dir{}, d.fail("open", name, unix.EXDEV)
	}
	return sub, nil
}

// mountOf is the number of the mount that a directory was opened through.
func mountOf(d dir) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(int(d.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID == 0 {
		err = unix.ENOSYS // before Linux 5.8
	}
	return st.Mnt_id, d.fail("statx", ".", err)
}
