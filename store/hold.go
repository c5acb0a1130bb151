package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"berth/lock"
)

// A Hold keeps a deployment where it is: it is a read lock on its files/.ref,
// held through an open file description of its own. It lasts until the last
// copy of that descriptor is closed, in whatever process.
type Hold struct {
	Ref  Ref      // with the version
	Lock *os.File // the locked files/.ref, close-on-exec
	dep  dir
}

// Files is the absolute path of the deployment's tree. It stays valid for as
// long as the hold lasts.
func (h *Hold) Files() string { return filepath.Join(h.dep.Name(), filesDir) }

// Inherit makes the hold cross execve(2) and returns the descriptor's number.
func (h *Hold) Inherit() (fd int, err error) { return lock.Inherit(h.Lock) }

// Release ends the hold, unless another process has a copy of the descriptor.
func (h *Hold) Release() error { return errors.Join(h.Lock.Close(), h.dep.Close()) }

const (
	holdTries  = 12
	holdPause  = time.Millisecond // grows twofold up to
	holdLonger = 100 * time.Millisecond
)

// errAgain says that the deployment was taken away between two steps, so that
// the ref has to be resolved again.
var errAgain = errors.New("it is being replaced or removed")

// Hold takes a hold on a deployment, as a reader does: for as long as it
// lasts, no collector removes a file of it. It writes nothing.
//
// While a collector has the deployment, Hold resolves the ref again, a bounded
// number of times within about a second; if it stays locked the error is
// lock.ErrBusy. Other errors are ErrNotFound, ErrNoCurrent, ErrDeferred,
// ErrBroken.
func (s *Store) Hold(ctx context.Context, ref Ref) (*Hold, error) {
	h, err := s.hold(ctx, ref)
	if err != nil {
		return nil, &RefError{"use", ref, err}
	}
	return h, nil
}

func (s *Store) hold(ctx context.Context, ref Ref) (h *Hold, err error) {
	err = retry(ctx, func() error {
		h, err = s.tryHold(ref)
		return err
	})
	return h, err
}

// retry tries once more, a bounded number of times, when somebody has the
// deployment who is about to give it up or to take it away. Who does it under
// the store lock lets go of that in between: it is what the other waits for.
func retry(ctx context.Context, try func() error) error {
	pause := holdPause
	for n := 1; ; n++ {
		err := try()
		if !errors.Is(err, errAgain) && !errors.Is(err, lock.ErrBusy) || n == holdTries {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, holdLonger)
	}
}

// tryHold goes through the reader's steps once.
func (s *Store) tryHold(ref Ref) (*Hold, error) {
	h, err := s.tryHoldCondemned(ref)
	if err != nil {
		return nil, err
	}
	condemned, err := h.dep.exists(deferredFile)
	if err == nil && condemned {
		err = ErrDeferred
		if now, lookErr := s.currentVersion(ref.Name); ref.Version == "" && lookErr == nil && now != h.Ref.Version {
			err = errAgain // somebody has switched since the link was read
		}
	}
	if err != nil {
		h.Release()
		return nil, err
	}
	return h, nil
}

// tryHoldCondemned is for what may be marked as deferred, too.
func (s *Store) tryHoldCondemned(ref Ref) (_ *Hold, err error) {
	rt, err := s.runtime(ref.Name)
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	byName := ref.Version == ""
	if byName {
		if ref.Version, err = currentOf(rt); err != nil {
			return nil, err
		}
		if ref.Version == "" {
			return nil, ErrNoCurrent
		}
	}
	h := &Hold{Ref: ref}
	if h.dep, err = rt.openDir(ref.Version); err != nil {
		if now, lookErr := currentOf(rt); byName && lookErr == nil && now != "" {
			if now != ref.Version {
				return nil, errAgain // somebody has switched, and collected the old one
			}
			if errors.Is(err, os.ErrNotExist) {
				return nil, ErrNoCurrent // the link names nothing
			}
		}
		return nil, missing(err)
	}
	defer func() {
		if err != nil {
			h.dep.Close()
			if h.Lock != nil {
				h.Lock.Close()
			}
		}
	}()
	if h.Lock, err = openRef(h.dep, unix.O_RDONLY); err != nil {
		if gone, lookErr := replaced(rt, ref.Version, h.dep); lookErr == nil && gone {
			err = errAgain // a collector that deletes it took its .ref first
		}
		return nil, err
	}
	if err := lock.Try(h.Lock, lock.Read); err != nil {
		return nil, err
	}
	// The lock may be on what is not at its path any more: a collector can
	// have renamed it between the open and the lock.
	if err := s.stillAt(ref, h.Lock); err != nil {
		return nil, err
	}
	return h, nil
}

// replaced tells whether name in parent is something else than d by now.
func replaced(parent dir, name string, d dir) (bool, error) {
	opened, err := fstat(d.File)
	if err != nil {
		return false, err
	}
	named, err := parent.lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return err == nil && idOf(&named) != idOf(&opened), err
}

// openRef opens the lock file of a deployment or of a tree in the trash. The
// error is ErrBroken if there is none, or no regular file.
func openRef(dep dir, flags int) (*os.File, error) {
	files, err := dep.openDir(filesDir)
	if err != nil {
		return nil, broken(err)
	}
	defer files.Close()
	f, err := files.openFile(refFile, flags)
	if err != nil {
		return nil, broken(err)
	}
	if _, err := checkRegular(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return f, nil
}

// broken turns the errors of a part that is missing or of another type into
// ErrBroken. That the whole deployment has just been renamed away looks the
// same; who cares looks again.
func broken(err error) error {
	for _, kind := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO, unix.EISDIR} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
	}
	return err
}

// stillAt is the second look: it walks the path of the deployment's lock file
// again and compares what it finds with f. The error is errAgain if that is
// something else.
func (s *Store) stillAt(ref Ref, f *os.File) error {
	locked, err := fstat(f)
	if err != nil {
		return err
	}
	var named unix.Stat_t
	path := filepath.Join(ref.Name, ref.Version, filesDir, refFile)
	err = unix.Fstatat(int(s.runtimes.Fd()), path, &named, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT || err == nil && idOf(&named) != idOf(&locked) {
		return errAgain
	}
	return s.runtimes.fail("stat", path, err)
}

func (s *Store) currentVersion(name string) (string, error) {
	rt, err := s.runtime(name)
	if err != nil {
		return "", err
	}
	defer rt.Close()
	return currentOf(rt)
}

// currentOf reads the link of a runtime: "" if there is none.
func currentOf(rt dir) (version string, err error) {
	version, err = rt.readlink(currentLink)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !ValidVersion(version) {
		return "", fmt.Errorf("%w: the link %s points to %q", ErrBroken, rt.path(currentLink), version)
	}
	return version, nil
}
