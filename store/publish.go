package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// publish renames what the stage holds into place, and switches to it if it is
// to be current, both under one hold of the store lock: between two, a
// collector could take the new version away.
func (s *Store) publish(ctx context.Context, st *stage, ref Ref, activate bool) (activated bool, err error) {
	err = s.locked(ctx, func() error {
		rt, err := s.runtimes.makeDir(ref.Name)
		if err != nil {
			return err
		}
		defer rt.Close()
		if err := s.runtimes.sync(); err != nil {
			return err
		}
		current, err := currentOf(rt)
		if err != nil {
			return err
		}
		if current != "" {
			if there, err := rt.exists(current); err != nil {
				return err
			} else if !there {
				current = "" // somebody has broken the link
			}
		}
		if err := st.dir.renameNew(stageTree, rt, ref.Version); err != nil {
			s.forgetEmpty(ref.Name)
			return err
		}
		if err := rt.sync(); err != nil {
			return err
		}
		activated = activate || current == ""
		if !activated {
			return nil
		}
		return s.relink(rt, ref.Version)
	})
	return activated, err
}

// relink makes version the current one. The caller holds the store lock and
// knows that version is listed and on the disk.
func (s *Store) relink(rt dir, version string) error {
	dep, err := rt.openDir(version)
	if err != nil {
		return err
	}
	defer dep.Close()
	// Before the link: killed in between, the version counts as used
	// recently, which keeps it, and not as never used.
	now, err := activation(rt)
	if err != nil {
		return err
	}
	if err := dep.touch(activatedFile, now); err != nil {
		return err
	}
	if err := s.staging.unlink(currentLink); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.staging.symlink(version, currentLink); err != nil {
		return err
	}
	if err := s.staging.rename(currentLink, rt, currentLink); err != nil {
		return err
	}
	return rt.sync()
}

// activation is the time at which a version becomes current: now, or a second
// after the latest of the runtime if the clock was set back. It is by their
// order that rollbacks and collections know what was current before.
func activation(rt dir) (time.Time, error) {
	list, err := rt.entries()
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		_, at, err := rt.marker(filepath.Join(e.Name(), activatedFile))
		if err != nil {
			return time.Time{}, err
		}
		if at.After(now) {
			now = at.Add(time.Second)
		}
	}
	return now, nil
}
