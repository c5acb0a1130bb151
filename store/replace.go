package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoExchange says that the file system cannot exchange two directories in
// one step, without which nothing is replaced in place.
var ErrNoExchange = errors.New("the file system cannot exchange directories (RENAME_EXCHANGE)")

// replace puts what the stage holds in the place of a deployment that is
// listed, and deletes the old tree. It takes the write lock as a collector
// does, so that it fails with an *InUseError while somebody uses the old one.
// The markers of the old one are carried over, but that of a deferral: who
// replaces a version wants it.
func (s *Store) replace(ctx context.Context, st *stage, d Deployment) error {
	if err := s.firstLook(ctx, d); err != nil {
		return err
	}
	old, err := s.seize(ctx, d)
	if err != nil {
		return err
	}
	defer old.close()
	if err := s.settle(ctx, old); err != nil {
		return listedStill(err)
	}
	if err := st.adopt(old.dir); err != nil {
		return err
	}
	if err := s.exchange(ctx, st, old); err != nil {
		return err
	}
	// From here on the new tree is published. What is left to do is the next
	// drain's if it fails. Until the exchange the old tree was at its path:
	// who opened or mounted it after it had settled is there now.
	err = s.settle(ctx, old)
	if err == nil {
		_, err = s.deleteTree(ctx, old)
	}
	if err != nil {
		s.notice(fmt.Sprintf("the old files of %s are left in the trash: %v", d.Ref, err))
	}
	return nil
}

// seize takes the write lock on a deployment that stays listed.
func (s *Store) seize(ctx context.Context, d Deployment) (c *condemned, err error) {
	err = s.locked(ctx, func() error {
		rt, err := s.runtime(d.Ref.Name)
		if err != nil {
			return err
		}
		defer rt.Close()
		dep, err := rt.openDir(d.Ref.Version)
		if err != nil {
			return missing(err)
		}
		c = &condemned{ref: d.Ref, dir: dep}
		st, err := fstat(dep.File)
		if err == nil && idOf(&st) != d.id {
			err = ErrChanged
		}
		if err != nil {
			return err
		}
		ref, err := writeLock(dep)
		if err != nil {
			return err
		}
		c.locks = append(c.locks, ref)
		return nil
	})
	if err != nil && c != nil {
		c.close()
	}
	return c, err
}

// listedStill corrects the error of settle, which is made for the trash.
func listedStill(err error) error {
	if busy := (*InUseError)(nil); errors.As(err, &busy) {
		busy.Trashed = false
	}
	return err
}

// adopt gives the new tree the markers of the old one. Nobody can change them
// meanwhile: that takes a read lock.
func (st *stage) adopt(old dir) error {
	tree, err := st.dir.openDir(stageTree)
	if err != nil {
		return err
	}
	defer tree.Close()
	if pinned, err := old.exists(keepFile); err != nil {
		return err
	} else if pinned {
		if err := tree.mark(keepFile); err != nil {
			return err
		}
	}
	activated, err := old.lstat(activatedFile)
	if errors.Is(err, os.ErrNotExist) {
		return tree.sync()
	}
	if err != nil {
		return err
	}
	if err := tree.touch(activatedFile, modTime(&activated)); err != nil {
		return err
	}
	return tree.sync()
}

// exchange swaps the two trees and moves the old one to the trash, under one
// hold of the store lock. Killed in between, the old tree lies in the stage,
// where a cleaner treats it as one in the trash.
func (s *Store) exchange(ctx context.Context, st *stage, old *condemned) error {
	return s.locked(ctx, func() error {
		rt, err := s.runtime(old.ref.Name)
		if err != nil {
			return err
		}
		defer rt.Close()
		if gone, err := replaced(rt, old.ref.Version, old.dir); err != nil {
			return err
		} else if gone {
			return ErrChanged
		}
		err = unix.Renameat2(int(st.dir.Fd()), stageTree, int(rt.Fd()), old.ref.Version, unix.RENAME_EXCHANGE)
		if err == unix.EINVAL || err == unix.ENOSYS {
			return fmt.Errorf("%w: %s", ErrNoExchange, rt.path(old.ref.Version))
		}
		if err != nil {
			return linkError("exchange", st.dir.path(stageTree), rt.path(old.ref.Version), err)
		}
		old.parent, old.name = s.trash, trashName(old.ref, strings.ToLower(rand.Text()[:8]))
		if err := errors.Join(rt.sync(), st.dir.sync()); err != nil {
			return err
		}
		if err := st.dir.renameNew(stageTree, s.trash, old.name); err != nil {
			return err
		}
		return errors.Join(s.trash.sync(), st.dir.sync())
	})
}
