package store

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Switch makes a version of a runtime the current one. It is no error if it
// was so before: it then counts as activated anew.
func (s *Store) Switch(ctx context.Context, ref Ref) error {
	if err := s.switchTo(ctx, ref); err != nil {
		return &RefError{"switch to", ref, err}
	}
	return nil
}

func (s *Store) switchTo(ctx context.Context, ref Ref) error {
	return s.retryLocked(ctx, func() error {
		// The hold looks that the version is listed and not condemned, and
		// keeps it so, against collectors of other programs too.
		h, err := s.tryHold(ref)
		if err != nil {
			return err
		}
		defer h.Release()
		rt, err := s.runtime(ref.Name)
		if err != nil {
			return err
		}
		defer rt.Close()
		if err := rt.sync(); err != nil {
			return err
		}
		return s.relink(rt, ref.Version)
	})
}

// retryLocked is retry with every try under the store lock.
func (s *Store) retryLocked(ctx context.Context, try func() error) error {
	return retry(ctx, func() error { return s.locked(ctx, try) })
}

// Rollback switches to the version that was current before, and returns it.
// Twice returns to where it began.
func (s *Store) Rollback(ctx context.Context, name string) (Ref, error) {
	ref, err := s.rollback(ctx, name)
	if err != nil {
		return Ref{}, &RefError{"roll back", Ref{Name: name}, err}
	}
	return ref, nil
}

func (s *Store) rollback(ctx context.Context, name string) (Ref, error) {
	list, err := s.listRuntime(name)
	if err != nil {
		return Ref{}, err
	}
	list = slices.DeleteFunc(list, func(d Deployment) bool {
		return d.Current || d.Deferred || d.Activated.IsZero() || d.Err != nil
	})
	if len(list) == 0 {
		return Ref{}, ErrNoPrevious
	}
	previous := slices.MaxFunc(list, func(a, b Deployment) int {
		return a.Activated.Compare(b.Activated)
	})
	return previous.Ref, s.switchTo(ctx, previous.Ref)
}

// Pin protects a version from every collection until Unpin.
func (s *Store) Pin(ctx context.Context, ref Ref) (Ref, error) {
	return s.remark(ctx, "pin", ref, func(dep dir) error { return dep.mark(keepFile) })
}

// Unpin takes the protection away again. Unpinning what is not pinned is no
// error.
func (s *Store) Unpin(ctx context.Context, ref Ref) (Ref, error) {
	return s.remark(ctx, "unpin", ref, func(dep dir) error {
		return ignoreMissing(dep.unlink(keepFile))
	})
}

// remark changes a marker of a deployment under a hold: a mark that is written
// into a tree on its way to the trash would protect nothing. It returns the
// ref with the version.
func (s *Store) remark(ctx context.Context, op string, ref Ref, change func(dir) error) (Ref, error) {
	h, err := s.hold(ctx, ref)
	if err != nil {
		return Ref{}, &RefError{op, ref, err}
	}
	defer h.Release()
	if err := errors.Join(change(h.dep), h.dep.sync()); err != nil {
		return Ref{}, &RefError{op, h.Ref, err}
	}
	return h.Ref, nil
}

// Defer condemns a version that is in use: it takes no new readers, and is
// collected as soon as the old ones have gone. What is current or pinned
// cannot be condemned. The caller tries Collect again afterwards, because the
// last reader may have left before he could see the mark.
func (s *Store) Defer(ctx context.Context, ref Ref) error {
	if err := s.deferIt(ctx, ref); err != nil {
		return &RefError{"defer the removal of", ref, err}
	}
	return nil
}

// reprieve takes a deferral back: who installs a version wants it. As for a
// pin, the hold makes sure that what is marked is what is listed.
func (s *Store) reprieve(ctx context.Context, ref Ref) error {
	return s.retryLocked(ctx, func() error {
		h, err := s.tryHoldCondemned(ref)
		if err != nil {
			return err
		}
		defer h.Release()
		return errors.Join(ignoreMissing(h.dep.unlink(deferredFile)), h.dep.sync())
	})
}

func (s *Store) deferIt(ctx context.Context, ref Ref) error {
	return s.locked(ctx, func() error {
		rt, err := s.runtime(ref.Name)
		if err != nil {
			return err
		}
		defer rt.Close()
		current, err := currentOf(rt)
		if err != nil {
			return err
		}
		if current == ref.Version {
			return ErrCurrent
		}
		dep, err := rt.openDir(ref.Version)
		if err != nil {
			return missing(err)
		}
		defer dep.Close()
		if pinned, err := dep.exists(keepFile); err != nil {
			return err
		} else if pinned {
			return ErrPinned
		}
		if marked, err := dep.exists(deferredFile); err != nil {
			return err
		} else if marked {
			return dep.sync() // who wrote it may have died before his sync
		}
		return errors.Join(dep.touch(deferredFile, time.Now()), dep.sync())
	})
}
