package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"berth/lock"
	"berth/store/archive"
	"berth/store/manifest"
	"berth/store/source"
)

// Repaired is what Repair did.
type Repaired struct {
	Ref Ref
	// Differences are those that were found, and mended.
	Differences []Difference
	// From says where the new tree came from: "" if nothing had to be built.
	From string
}

// Repair makes a deployment what its manifest says. A missing files/.ref is
// made again. If anything else differs, a whole new tree is built, of the
// members that are intact and of identical files of the runtime's other
// versions, or, if that is not enough, from the origin; and it replaces the
// old one as a forced Install does: not while somebody uses it, in which case
// the error is an *InUseError.
func (s *Store) Repair(ctx context.Context, ref Ref, opt InstallOptions) (*Repaired, error) {
	done, err := s.repair(ctx, ref, opt)
	if err != nil {
		return nil, &RefError{"repair", ref, err}
	}
	return done, nil
}

func (s *Store) repair(ctx context.Context, ref Ref, opt InstallOptions) (*Repaired, error) {
	d, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	done := &Repaired{Ref: d.Ref}
	made, err := s.restoreRef(ctx, d)
	if err != nil {
		return nil, err
	}
	if made {
		done.Differences = append(done.Differences, Difference{Path: refFile, What: "missing"})
	}
	_, found, err := s.Verify(ctx, d.Ref, opt.Read)
	if err == nil && len(found) == 0 {
		return done, nil
	}
	if err != nil && !errors.Is(err, ErrBroken) {
		return nil, err
	}
	if i := slices.IndexFunc(found, func(d Difference) bool { return !d.Unread }); i < 0 && err == nil {
		return nil, fmt.Errorf("%q %s: %w", found[0].Path, found[0].What, os.ErrPermission) // it may be intact
	}
	done.Differences = append(done.Differences, found...)
	st, err := s.openStage(ctx, d.Ref)
	if err == nil {
		err = s.rebuild(ctx, st, d, opt, done)
		_, discardErr := st.discard(context.WithoutCancel(ctx))
		err = errors.Join(err, discardErr)
	}
	if err != nil && made {
		err = errors.Join(err, s.withdrawRef(ctx, d))
	}
	return done, err
}

// withdrawRef takes the lock file away again that was made for a repair that
// has failed, unless somebody has locked it meanwhile: what is not whole must
// not look as if programs could run on it.
func (s *Store) withdrawRef(ctx context.Context, d *Deployment) error {
	return s.locked(context.WithoutCancel(ctx), func() error {
		dep, err := s.openDeployment(d.Ref)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer dep.Close()
		ref, err := openRef(dep, unix.O_RDWR)
		if err != nil {
			return err
		}
		defer ref.Close()
		if err := lock.Try(ref, lock.Write); err != nil {
			return err
		}
		files, err := dep.openDir(filesDir)
		if err != nil {
			return err
		}
		defer files.Close()
		return files.unlink(refFile)
	})
}

// rebuild fills the stage and exchanges it with the deployment.
func (s *Store) rebuild(ctx context.Context, st *stage, d *Deployment, opt InstallOptions, done *Repaired) error {
	tree, err := st.dir.makeDir(stageTree)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err = s.assemble(ctx, tree, d); err == nil {
		done.From = "files that are installed"
	} else {
		assembleErr := err
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := newDeletion(ctx, nil).content(tree); err != nil {
			return err
		}
		if err := s.fromOrigin(ctx, tree, d, opt); err != nil {
			return fmt.Errorf("%w; from its origin: %w", assembleErr, err)
		}
		done.From = d.Origin
	}
	if !opt.NoSync {
		if err := tree.syncFS(); err != nil {
			return err
		}
	}
	return s.replace(ctx, st, *d)
}

// fromOrigin unpacks the archive once more that the deployment came from.
func (s *Store) fromOrigin(ctx context.Context, tree dir, d *Deployment, opt InstallOptions) error {
	if d.Origin == "" {
		return errors.New("its origin is not known")
	}
	a, err := source.File(d.Origin)
	if err != nil {
		return err
	}
	a.Name, a.Version, a.Digest, a.TOC = d.Ref.Name, d.Ref.Version, d.Digest, d.TOC
	content, err := s.unpack(ctx, a, d.Ref, tree.File, opt)
	if err != nil {
		return err
	}
	if err := s.same(d, content); err != nil {
		return fmt.Errorf("%q: %w", d.Origin, err)
	}
	return describeTree(tree, d.Ref, a, content)
}

// same tells whether an origin still is what the deployment was made of: a
// directory has no digest. Without a manifest nobody knows.
func (s *Store) same(d *Deployment, content *archive.Tree) error {
	dep, err := s.openDeployment(d.Ref)
	if err != nil {
		return err
	}
	defer dep.Close()
	expected, err := readManifest(dep)
	if err != nil {
		return nil
	}
	for _, e := range content.Entries {
		if expected[e.Path] != e && e.Path != refFile {
			return fmt.Errorf("%w: it is not what was installed from it: %q differs", source.ErrDigest, e.Path)
		}
		delete(expected, e.Path)
	}
	for path := range expected {
		return fmt.Errorf("%w: it is not what was installed from it: %q is missing", source.ErrDigest, path)
	}
	return nil
}

// restoreRef makes files/.ref again if there is nothing of that name, with the
// times of it and of files/ that the manifest has. Who occupies the tree is not
// disturbed. But who had locked the file that was there before is protected by
// that lock no more, only by being seen.
func (s *Store) restoreRef(ctx context.Context, d *Deployment) (made bool, err error) {
	if err := s.wouldSeeHolders(ctx, d); err != nil {
		return false, err
	}
	err = s.locked(ctx, func() error {
		dep, err := s.openDeployment(d.Ref)
		if err != nil {
			return err
		}
		defer dep.Close()
		files, err := dep.makeDir(filesDir)
		if err != nil {
			return broken(err)
		}
		defer files.Close()
		if there, err := files.exists(refFile); there || err != nil {
			return err
		}
		expected, manifestErr := readManifest(dep)
		if err := files.mark(refFile); err != nil {
			return err
		}
		made = true
		if manifestErr == nil {
			if err := files.touch(refFile, expected[refFile].Time); err != nil {
				return err
			}
			if err := dep.setTime(filesDir, expected["."]); err != nil {
				return err
			}
		}
		return files.sync()
	})
	return made, err
}

// wouldSeeHolders fails if files/.ref is missing, and somebody could have it
// open, and locked, whom we cannot see.
func (s *Store) wouldSeeHolders(ctx context.Context, d *Deployment) error {
	dep, err := s.openDeployment(d.Ref)
	if err != nil {
		return err
	}
	defer dep.Close()
	if there, err := dep.exists(filepath.Join(filesDir, refFile)); there || err != nil {
		return err
	}
	if s.opt.Looker == nil {
		return errNoLooker
	}
	sight, err := s.opt.Looker.Look(ctx, []Tree{treeOf(d.Ref, dep)})
	if err != nil {
		return err
	}
	for _, b := range sight.Blind {
		others := b.Kind == BlindAccounts || b.Kind == BlindHidepid
		if b.Kind == BlindPIDs || others && s.OpenToOthers() {
			return &InUseError{Doubt: b.Text + " cannot be seen, who may have locked the file that is missing"}
		}
	}
	return nil
}

// setTime gives a member the time that the manifest has.
func (d dir) setTime(name string, e manifest.Entry) error {
	ts, err := unix.TimeToTimespec(e.Time)
	if err != nil {
		return d.fail("set the time of", name, err)
	}
	err = unix.UtimesNanoAt(int(d.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	return d.fail("set the time of", name, err)
}

// errNowhere says which member cannot be had from what is installed.
func errNowhere(path string) error {
	return fmt.Errorf("no intact copy of %q is installed", path)
}
