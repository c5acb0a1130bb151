package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"berth/lock"
)

// CollectOptions say how far Collect may go.
type CollectOptions struct {
	// Last permits to remove the current version, if the runtime has no other.
	Last bool
}

// Collect removes a deployment that List or Lookup has described, as a
// collector does: never one that is current, pinned, locked or occupied. It
// never waits for a user. freed is the bytes that it gave back to the file
// system.
//
// The error is ErrNotFound or ErrChanged if d is not there any more, ErrCurrent
// or ErrPinned if it is protected, and an *InUseError (which is lock.ErrBusy)
// if somebody uses it. Whatever else stands in the way of knowing that it is
// free keeps it as well. If the error comes from after it was unpublished
// (an InUseError with Trashed, or the end of ctx while deleting), the rest of
// the work is the next drain's.
func (s *Store) Collect(ctx context.Context, d Deployment, opt CollectOptions) (freed int64, err error) {
	freed, err = s.collect(ctx, d, opt)
	if err != nil {
		err = &RefError{"remove", d.Ref, err}
	}
	return freed, err
}

func (s *Store) collect(ctx context.Context, d Deployment, opt CollectOptions) (freed int64, err error) {
	if d.id == (fileID{}) {
		return 0, d.Err // List could not even open it
	}
	if err := s.firstLook(ctx, d); err != nil {
		return 0, err
	}
	c, err := s.condemn(ctx, d, opt)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := s.settle(ctx, c); err != nil {
		return 0, err
	}
	return s.deleteTree(ctx, c)
}

// firstLook asks /proc before anything is changed. It is a kindness: a
// deployment that is in use stays listed, instead of waiting in the trash.
func (s *Store) firstLook(ctx context.Context, d Deployment) error {
	rt, err := s.runtime(d.Ref.Name)
	if err != nil {
		return err
	}
	defer rt.Close()
	dep, err := rt.openDir(d.Ref.Version)
	if err != nil {
		return missing(err)
	}
	defer dep.Close()
	if err := dep.checkNoMounts(); err != nil {
		return err
	}
	uses, _, err := s.look(ctx, d.Ref, dep)
	if err == nil && len(uses) > 0 {
		err = &InUseError{Uses: uses}
	}
	if err != nil {
		return err
	}
	return dep.probeNested(ctx)
}

// probeNested looks for locks on the other files named .ref in the tree, whose
// holders /proc may not show. A tree that may not be read whole is left to
// settle.
func (d dir) probeNested(ctx context.Context) error {
	err := walkDirs(ctx, d, ".", openCounted, func(sub dir, _ string, list []fs.DirEntry) error {
		if !slices.ContainsFunc(list, isNestedRef) {
			return nil
		}
		f, err := sub.openFile(refFile, unix.O_RDONLY)
		if err != nil {
			return nil
		}
		defer f.Close()
		conflict, err := lock.Probe(f, lock.Write)
		if err == nil && conflict != nil {
			err = &InUseError{}
		}
		return err
	})
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}

// condemned is a tree in the trash, or an exchanged one in a stage, with the
// write locks on its lock files. Nobody who takes the lock before he uses a
// tree can get at it.
type condemned struct {
	ref    Ref
	parent dir // where it lies; not owned
	name   string
	dir    dir
	locks  []*os.File // write-locked: files/.ref first, if there is one
	// refDirs are the directories with a lock file, once all are locked:
	// relative to dir.
	refDirs []string
}

func (c *condemned) close() {
	for _, f := range c.locks {
		f.Close()
	}
	c.dir.Close()
}

// condemn unpublishes a deployment. Everything that protects it is tested
// under the store lock, because until then somebody can switch to it, pin it
// or replace it.
func (s *Store) condemn(ctx context.Context, d Deployment, opt CollectOptions) (c *condemned, err error) {
	err = s.locked(ctx, func() error {
		rt, err := s.runtime(d.Ref.Name)
		if err != nil {
			return err
		}
		defer rt.Close()
		c, err = s.unpublish(rt, d, opt)
		return err
	})
	return c, err
}

func (s *Store) unpublish(rt dir, d Deployment, opt CollectOptions) (_ *condemned, err error) {
	dep, err := rt.openDir(d.Ref.Version)
	if err != nil {
		return nil, missing(err)
	}
	c := &condemned{ref: d.Ref, dir: dep}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	st, err := fstat(dep.File)
	if err != nil {
		return nil, err
	}
	if idOf(&st) != d.id {
		return nil, ErrChanged
	}
	current, err := currentOf(rt)
	if err != nil {
		return nil, err
	}
	if current == d.Ref.Version {
		if !opt.Last {
			return nil, ErrCurrent
		}
		if others, err := hasOthers(rt, current); err != nil {
			return nil, err
		} else if others {
			return nil, fmt.Errorf("%w, while the runtime has others", ErrCurrent)
		}
	}
	// Before the lock too: who is told that it is in use waits in vain.
	if err := notPinned(dep); err != nil {
		return nil, err
	}
	if marked, err := dep.exists(deferredFile); err != nil {
		return nil, err
	} else if d.Deferred && !marked {
		return nil, ErrChanged // somebody wants it after all
	}
	if _, activated, err := dep.marker(activatedFile); err != nil {
		return nil, err
	} else if !activated.Equal(d.Activated) {
		return nil, ErrChanged // it was current meanwhile
	}
	ref, err := writeLock(dep)
	if err != nil {
		return nil, err
	}
	c.locks = append(c.locks, ref)
	// A pin takes a read lock, not the store lock: none is on its way by now.
	if err := notPinned(dep); err != nil {
		return nil, err
	}

	if current == d.Ref.Version {
		// First the link, and for good: at no instant may it name what is
		// not listed.
		if err := rt.unlink(currentLink); err != nil {
			return nil, err
		}
		defer func() {
			// What could not be renamed stays, and stays current.
			if err != nil && c.parent.File == nil {
				err = errors.Join(err, rt.symlink(current, currentLink))
			}
		}()
		if err := rt.sync(); err != nil {
			return nil, err
		}
	}
	c.name = trashName(d.Ref, strings.ToLower(rand.Text()[:8]))
	if err := rt.renameNew(d.Ref.Version, s.trash, c.name); err != nil {
		return nil, err
	}
	c.parent = s.trash
	// Unless both are on the disk, a power cut could list it again after its
	// files have begun to go.
	if err := errors.Join(s.trash.sync(), rt.sync()); err != nil {
		return nil, err
	}
	s.forgetEmpty(d.Ref.Name)
	return c, nil
}

// writeLock opens the tree's files/.ref and takes the write lock, at once or
// not at all. The error is an *InUseError if it is held.
func writeLock(dep dir) (*os.File, error) {
	ref, err := openRef(dep, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := lock.Try(ref, lock.Write); err != nil {
		ref.Close()
		if errors.Is(err, lock.ErrBusy) {
			return nil, &InUseError{}
		}
		return nil, err
	}
	return ref, nil
}

func notPinned(dep dir) error {
	pinned, err := dep.exists(keepFile)
	if err == nil && pinned {
		err = ErrPinned
	}
	return err
}

func hasOthers(rt dir, version string) (bool, error) {
	list, err := rt.entries()
	if err != nil {
		return false, err
	}
	for _, e := range list {
		if e.IsDir() && ValidVersion(e.Name()) && e.Name() != version {
			return true, nil
		}
	}
	return false, nil
}

// forgetEmpty removes the directory of a runtime that has no version left. It
// is left when it holds anything, and harmless when it stays. The caller holds
// the store lock.
func (s *Store) forgetEmpty(name string) {
	_ = s.runtimes.rmdir(name)
}
