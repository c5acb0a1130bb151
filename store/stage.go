package store

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/lock"
)

// stageTree is where an installer puts a deployment together. It is what is
// published: a child of the stage, never the stage itself, whose lock stays.
const stageTree = "tree"

// A stage is the place of one installation, ours alone for as long as we hold
// the lock on its lock file.
type stage struct {
	store *Store
	name  string
	dir   dir
	lock  *os.File
}

// openStage makes the stage of ref, or waits for the one that is there until
// its installer is done, and empties it.
func (s *Store) openStage(ctx context.Context, ref Ref) (*stage, error) {
	for {
		st, err := s.enterStage(ctx, ref)
		if errors.Is(err, errAgain) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := st.clear(ctx); err != nil {
			st.lock.Close()
			st.dir.Close()
			return nil, err
		}
		return st, nil
	}
}

// enterStage gets the lock of the stage's lock file. The error is errAgain if
// the file was unlinked meanwhile, by the installer that we waited for or by a
// cleaner.
func (s *Store) enterStage(ctx context.Context, ref Ref) (_ *stage, err error) {
	st := &stage{store: s, name: ref.String()}
	defer func() {
		if err != nil {
			st.close()
		}
	}()
	// Under the store lock a cleaner of ours cannot come between the
	// directory and its lock file for long: it then takes the empty
	// directory, and we start over.
	err = s.locked(ctx, func() error {
		if at, err := fstat(s.staging.File); err != nil {
			return err
		} else if at.Nlink == 0 {
			return &os.PathError{Op: "use", Path: s.staging.Name(), Err: unix.ENOENT} // it will not come back
		}
		if st.dir, err = s.staging.makeDir(st.name); err != nil {
			return again(err)
		}
		st.lock, err = st.dir.openFile(lockFile, unix.O_RDWR)
		if errors.Is(err, os.ErrNotExist) {
			st.lock, err = st.dir.createFile(lockFile, 0o600)
		}
		return again(err)
	})
	if err != nil {
		return nil, err
	}
	err = lock.Wait(ctx, st.lock, lock.Write, func() {
		s.notice("waiting for another installation of " + ref.String())
	})
	if err != nil {
		return nil, err
	}
	if gone, err := st.replaced(); err != nil {
		return nil, err
	} else if gone {
		return nil, errAgain
	}
	return st, nil
}

func again(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errAgain
	}
	return err
}

// replaced tells whether the path of the stage's lock file names another file
// than the one that is locked.
func (st *stage) replaced() (bool, error) {
	if gone, err := replaced(st.store.staging, st.name, st.dir); gone || err != nil {
		return gone, err
	}
	return replaced(st.dir, lockFile, dir{st.lock})
}

// clear deletes everything in the stage but its lock file. What lies there can
// be a deployment that was exchanged with a new one: a tree with a .ref is
// treated as one in the trash.
func (st *stage) clear(ctx context.Context) (freed int64, err error) {
	list, err := st.dir.entries()
	if err != nil {
		return 0, err
	}
	ref, err := ParseRef(st.name)
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		if e.Name() == lockFile {
			continue
		}
		if !e.IsDir() {
			if err := st.dir.unlink(e.Name()); err != nil {
				return freed, err
			}
			continue
		}
		if err := st.syncExchange(ref); err != nil {
			return freed, err
		}
		n, err := st.store.drainTree(ctx, st.dir, e.Name(), ref)
		freed += n
		if err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// syncExchange makes durable that the stage's tree and a listed one changed
// places: who exchanged them may have died before his sync, and a power cut
// could list what is deleted here.
func (st *stage) syncExchange(ref Ref) error {
	rt, err := st.store.runtime(ref.Name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer rt.Close()
	return errors.Join(rt.sync(), st.dir.sync())
}

// discard deletes the stage: content, then lock file, then directory, so that
// whoever waits for the lock finds at every instant that he has to start over
// or that the stage is his.
func (st *stage) discard(ctx context.Context) (freed int64, err error) {
	defer st.close()
	freed, err = st.clear(ctx)
	if err != nil {
		return freed, err
	}
	if err := st.dir.unlink(lockFile); err != nil {
		return freed, err
	}
	err = st.store.staging.rmdir(st.name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) {
		err = nil
	}
	return freed, err
}

func (st *stage) close() {
	if st.lock != nil {
		st.lock.Close()
	}
	if st.dir.File != nil {
		st.dir.Close()
	}
}

// drainStages deletes the stages whose installers have died.
func (s *Store) drainStages(ctx context.Context) ([]Remnant, error) {
	list, err := s.staging.entries()
	if err != nil {
		return nil, err
	}
	var done []Remnant
	for _, e := range list {
		if !e.IsDir() {
			if strings.HasPrefix(e.Name(), lockTest) && s.tested(e.Name()) {
				continue
			}
			if err := s.unlinkLeftLink(ctx, e.Name()); err != nil {
				return done, err
			}
			continue
		}
		ref, err := ParseRef(e.Name())
		if err != nil {
			continue // nothing of ours: Examine names it
		}
		freed, dead, err := s.drainStage(ctx, ref)
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		if dead || err != nil {
			done = append(done, Remnant{ref, s.staging.path(e.Name()), freed, err})
		}
	}
	return done, nil
}

// tested tells whether somebody tries locks with a file. It counts as tried for
// a while in which nobody has locked it yet.
func (s *Store) tested(name string) bool {
	f, err := s.staging.openFile(name, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := fstat(f)
	if age := time.Since(modTime(&st)); err == nil && age >= 0 && age < time.Minute {
		return true
	}
	conflict, err := lock.Probe(f, lock.Write)
	return err == nil && conflict != nil
}

// drainStage deletes the stage of ref, unless it is alive.
func (s *Store) drainStage(ctx context.Context, ref Ref) (freed int64, dead bool, err error) {
	st := &stage{store: s, name: ref.String()}
	if st.dir, err = s.staging.openDir(st.name); err != nil {
		return 0, false, ignoreMissing(err)
	}
	st.lock, err = st.dir.openFile(lockFile, unix.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		// It is being made or being deleted, or one of the two was killed.
		st.close()
		err := s.staging.rmdir(st.name)
		if errors.Is(err, unix.ENOTEMPTY) {
			err = nil
		}
		return 0, err == nil, ignoreMissing(err)
	}
	if err == nil {
		err = lock.Try(st.lock, lock.Write)
	}
	if err != nil {
		st.close()
		if errors.Is(err, lock.ErrBusy) {
			return 0, false, nil
		}
		return 0, false, err
	}
	if gone, err := st.replaced(); gone || err != nil {
		st.close()
		return 0, false, err
	}
	freed, err = st.discard(ctx)
	return freed, true, err
}

// unlinkLeftLink removes the link that a switch was killed with, before it
// took it over "current". Under the store lock no switch is at work.
func (s *Store) unlinkLeftLink(ctx context.Context, name string) error {
	return s.locked(ctx, func() error { return ignoreMissing(s.staging.unlink(name)) })
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
