package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Remnant is a tree that was in the trash, or a stage whose installer has
// died, and what a drain made of it.
type Remnant struct {
	Ref   Ref
	Path  string // absolute
	Freed int64  // bytes
	// Err says why it is still there: an *InUseError if somebody uses it.
	Err error
}

// Drain deletes what earlier processes have left: trees in the trash that
// nobody uses any more, and stages that nobody works in. Every method that
// changes the store begins with it. It never waits for a user. The error is
// of the drain as a whole; that of a single tree is in its Remnant.
func (s *Store) Drain(ctx context.Context) ([]Remnant, error) {
	if err := s.complete(); err != nil {
		return nil, err
	}
	done, err := s.drainTrash(ctx)
	if err != nil {
		return done, fmt.Errorf("cannot drain the trash: %w", err)
	}
	stages, err := s.drainStages(ctx)
	if err != nil {
		err = fmt.Errorf("cannot clean the staging directory: %w", err)
	}
	return append(done, stages...), err
}

func (s *Store) drainTrash(ctx context.Context) ([]Remnant, error) {
	list, err := s.trash.entries()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	// Who renamed a tree into the trash may have died before his sync. Unless
	// the rename is on the disk, deleting could leave a listed half tree
	// behind a power cut.
	if err := s.trash.sync(); err != nil {
		return nil, err
	}
	var done []Remnant
	for _, e := range list {
		if !e.IsDir() {
			continue // nothing of ours: Examine names it
		}
		ref := refOfTrash(e.Name())
		r := Remnant{Ref: ref, Path: s.trash.path(e.Name())}
		r.Freed, r.Err = s.drainTree(ctx, s.trash, e.Name(), ref)
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		done = append(done, r)
	}
	return done, nil
}

// drainTree deletes one unpublished tree, if nobody uses it.
func (s *Store) drainTree(ctx context.Context, parent dir, name string, ref Ref) (freed int64, err error) {
	tree, err := parent.openDir(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	c := &condemned{ref: ref, parent: parent, name: name, dir: tree}
	defer c.close()
	lockable, err := hasRef(tree)
	if err != nil {
		return 0, err
	}
	if lockable {
		if lockable, err = wasListed(tree); err != nil {
			return 0, err
		}
	}
	// A tree without files/.ref is half deleted already and belongs to
	// whoever comes.
	if lockable {
		f, err := writeLock(tree)
		switch {
		case err == nil:
			c.locks = append(c.locks, f)
		case !errors.Is(err, os.ErrNotExist): // else it has just been deleted
			return 0, inTrash(err)
		}
		if gone, err := replaced(parent, name, tree); gone || err != nil {
			return 0, err
		}
	}
	if err := s.settle(ctx, c); err != nil {
		return 0, err
	}
	return s.deleteTree(ctx, c)
}

// hasRef tells whether anything stands at the tree's files/.ref.
func hasRef(tree dir) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(tree.Fd()), filepath.Join(filesDir, refFile), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil, tree.fail("stat", filesDir, err)
}

// wasListed tells a deployment from what an installer has refused: an archive
// can have anything for a lock file. What has no record and nothing that can be
// locked was never published.
func wasListed(tree dir) (bool, error) {
	recorded, err := tree.exists(deploymentFile)
	if recorded || err != nil {
		return recorded, err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(tree.Fd()), filepath.Join(filesDir, refFile), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT { // somebody else deletes it
		return false, nil
	}
	return err == nil && isRegular(&st), tree.fail("stat", filesDir, err)
}

func inTrash(err error) error {
	if busy := (*InUseError)(nil); errors.As(err, &busy) {
		busy.Trashed = true
	}
	return err
}
