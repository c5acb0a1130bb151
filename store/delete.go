package store

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// deleteTree deletes a settled tree, whose write locks the caller holds until
// it is gone. Lock files go first: somebody who comes late then finds none and
// does not start. Were they last, a kill half way would leave half a tree that
// can be locked.
//
// Several processes may delete one tree at once, which happens to one without
// lock files: what is gone already is no error, and a directory in which
// another still works is left to the next drain.
func (s *Store) deleteTree(ctx context.Context, c *condemned) (freed int64, err error) {
	w := newDeletion(ctx, s.opt.Deleted)
	for _, at := range append([]string{filesDir}, c.refDirs...) {
		if err := w.ref(c.dir, at); err != nil {
			return w.freed.Load(), err
		}
	}
	if err := w.content(c.dir); err != nil {
		return w.freed.Load(), err
	}
	// The trash is the store's: its mode is not for a deletion to change.
	err = w.rmdir(c.dir, func() error { return c.parent.rmdir(c.name) })
	return w.freed.Load(), err
}

// deleters is how many directories are deleted at once, on however many
// processors: it is the disk that unlink(2) waits for, to read inodes and,
// mounted with "discard", to give up every freed extent.
const deleters = 16

// A deletion works on several directories at once, and counts what it frees.
type deletion struct {
	ctx   context.Context
	more  chan struct{} // has room for one more goroutine
	freed atomic.Int64
	mu    sync.Mutex
	told  func(int64)
}

func newDeletion(ctx context.Context, told func(int64)) *deletion {
	return &deletion{ctx: ctx, more: make(chan struct{}, deleters-1), told: told}
}

// ref deletes the lock file in the directory at a path below the tree.
func (w *deletion) ref(tree dir, at string) error {
	d := tree
	for name := range strings.SplitSeq(at, "/") {
		sub, err := d.openOwnDir(name)
		if d != tree {
			d.Close()
		}
		if err != nil {
			return ignoreMissing(err)
		}
		d = sub
	}
	defer d.Close()
	err := w.file(d, refFile)
	if errors.Is(err, unix.EISDIR) {
		return nil // no lock file, whatever its name
	}
	return err
}

// content deletes what is in a directory. Directories in it get a goroutine of
// their own while there is room, and are gone when it returns.
func (w *deletion) content(d dir) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	list, err := d.entries()
	if err != nil {
		return ignoreMissing(err)
	}
	var beside errgroup.Group
	for _, e := range list {
		name := e.Name()
		if !e.IsDir() {
			err = w.file(d, name)
		} else {
			select {
			case w.more <- struct{}{}:
				beside.Go(func() error {
					defer func() { <-w.more }()
					return w.directory(d, name)
				})
			default:
				err = w.directory(d, name)
			}
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, beside.Wait())
}

func (w *deletion) directory(d dir, name string) error {
	sub, err := d.openOwnDir(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := w.content(sub); err != nil {
		return err
	}
	return w.rmdir(sub, func() error {
		return writable(d, func() error { return d.rmdir(name) })
	})
}

// rmdir removes the directory sub with remove. Not empty it is left: somebody
// else deletes, or has deleted and made something in it since.
func (w *deletion) rmdir(sub dir, remove func() error) error {
	st, err := fstat(sub.File)
	if err == nil {
		err = remove()
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	if err == nil {
		w.count(&st)
	}
	return err
}

func (w *deletion) count(st *unix.Stat_t) {
	w.freed.Add(st.Blocks * 512)
	if w.told != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told(st.Blocks * 512)
	}
}

func (w *deletion) file(d dir, name string) error {
	st, err := d.lstat(name)
	if err == nil {
		err = writable(d, func() error { return d.unlink(name) })
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Nlink == 1 {
		w.count(&st)
	}
	return nil
}

// writable runs fn, which removes a name from d, and once more with the
// owner's full rights to d if they were lacking.
func writable(d dir, fn func() error) error {
	err := fn()
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	if chmodErr := unix.Fchmod(int(d.Fd()), 0o700); chmodErr != nil {
		return err
	}
	return fn()
}
