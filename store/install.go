package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"berth/lock"
	"berth/store/archive"
	"berth/store/manifest"
	"berth/store/source"
)

// InstallOptions say how to install.
type InstallOptions struct {
	// Activate makes the version current. The first version of a runtime
	// becomes current in any case.
	Activate bool
	// Force replaces the version if it is installed already, by the protocol's
	// replacement in place: if nobody uses it.
	Force bool
	// NoSync leaves out the syncfs(2) before the version is published. After
	// a power cut it can then be listed and incomplete.
	NoSync bool
	// NoDedup writes every file, also those that the current version or one of
	// those activated most recently has already, which else are linked.
	NoDedup bool
	// VerifyDonors compares the content of what is linked, too.
	VerifyDonors bool
	// MaxSize bounds what the archive may unpack to, in bytes. 0: no bound.
	MaxSize int64
	// Read, if not nil, is told the number of bytes that have been read from
	// the source since it was last told.
	Read func(n int64)
}

// Installed is what Install did.
type Installed struct {
	Ref       Ref
	Already   bool  // it was there; nothing was unpacked
	Reprieved bool  // it was there, and was to be removed
	Replaced  bool  // it was there, and is a new one now
	Activated bool  // it has become current
	Size      int64 // content in bytes
	Reused    int64 // of it, what was linked from other versions
	Read      int64 // bytes of the source
	Dropped   archive.Dropped
	// Changed are the files of other versions that are not what they were
	// installed as, and were therefore not reused.
	Changed []string
	// Warning is what failed after the version was published: a left-over
	// that the next drain removes.
	Warning error
}

// Install unpacks one more version beside those that are there and publishes
// it whole, or not at all. Its ref is the artifact's name and version. What is
// installed already stays as it is. If somebody else is installing the same
// version, Install waits for him.
//
// Errors of the artifact are those of packages archive and source. Whenever
// the error is not nil nothing is published, and the stage is gone unless its
// deletion failed too.
func (s *Store) Install(ctx context.Context, a source.Artifact, opt InstallOptions) (*Installed, error) {
	ref := Ref{a.Name, a.Version}
	if !ValidName(ref.Name) || !ValidVersion(ref.Version) {
		return nil, fmt.Errorf("%w: %q", ErrBadRef, ref.String())
	}
	done, err := s.install(ctx, ref, a, opt)
	if err != nil {
		return nil, &RefError{"install", ref, err}
	}
	return done, nil
}

func (s *Store) install(ctx context.Context, ref Ref, a source.Artifact, opt InstallOptions) (*Installed, error) {
	// Who replaces it has its write lock, and its stage for as long, which
	// opening the stage waits for.
	done, err := s.already(ctx, ref, opt)
	if err == nil && done != nil || err != nil && !errors.Is(err, lock.ErrBusy) {
		return done, err
	}
	st, err := s.openStage(ctx, ref)
	if err != nil {
		return nil, err
	}
	// Only now nobody else can be installing it: look again.
	done, err = s.already(ctx, ref, opt)
	if done == nil && err == nil {
		done, err = s.fill(ctx, st, ref, a, opt)
	}
	_, discardErr := st.discard(context.WithoutCancel(ctx))
	if err != nil {
		return nil, errors.Join(err, discardErr)
	}
	if discardErr != nil {
		done.Warning = fmt.Errorf("cannot remove the stage: %w", discardErr)
	}
	return done, nil
}

// already answers for a version that is listed: nil if it is not, or is to be
// replaced.
func (s *Store) already(ctx context.Context, ref Ref, opt InstallOptions) (*Installed, error) {
	if opt.Force {
		return nil, nil
	}
	d, err := s.lookup(ref)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if d.Err != nil {
		return nil, fmt.Errorf("it is installed, but: %w", d.Err)
	}
	done := &Installed{Ref: ref, Already: true}
	if d.Deferred {
		err := s.reprieve(ctx, d.Ref)
		if errors.Is(err, errAgain) || errors.Is(err, ErrNotFound) {
			return nil, nil // the last user has left, and it with him
		}
		if err != nil {
			return nil, err
		}
		done.Reprieved = true
	}
	activate := opt.Activate
	if !activate {
		// Its installer may have died between the two renames of publish.
		if _, err := s.lookup(Ref{Name: ref.Name}); errors.Is(err, ErrNoCurrent) {
			activate = true
		}
	}
	if activate && !d.Current {
		done.Activated = true
		err := s.switchTo(ctx, ref)
		switch {
		case errors.Is(err, errAgain), errors.Is(err, ErrNotFound):
			return nil, nil // it has just been collected
		case errors.Is(err, ErrDeferred):
			return s.already(ctx, ref, opt)
		}
		return done, err
	}
	if opt.NoSync {
		return done, nil
	}
	return done, s.syncRuntime(ref.Name)
}

// syncRuntime makes durable what is listed: who renamed it into place may have
// died before his sync.
func (s *Store) syncRuntime(name string) error {
	rt, err := s.runtime(name)
	if errors.Is(err, ErrNotFound) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	defer rt.Close()
	return errors.Join(rt.sync(), s.runtimes.sync())
}

// fill unpacks the artifact into the stage and publishes it.
func (s *Store) fill(ctx context.Context, st *stage, ref Ref, a source.Artifact, opt InstallOptions) (*Installed, error) {
	tree, err := st.dir.makeDir(stageTree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	content, err := s.unpack(ctx, a, ref, tree.File, opt)
	if err != nil {
		return nil, err
	}
	if err := describeTree(tree, ref, a, content); err != nil {
		return nil, err
	}
	if !opt.NoSync {
		if err := tree.syncFS(); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	done := &Installed{Ref: ref, Size: content.Size, Reused: content.Reused, Read: content.SourceSize, Dropped: content.Dropped, Changed: content.Changed}
	if opt.Force {
		d, err := s.lookup(ref)
		if err == nil {
			done.Replaced = true
			return done, s.replaceAndSwitch(ctx, st, d, done, opt)
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	done.Activated, err = s.publish(ctx, st, ref, opt.Activate)
	return done, err
}

func (s *Store) replaceAndSwitch(ctx context.Context, st *stage, d *Deployment, done *Installed, opt InstallOptions) error {
	if err := s.replace(ctx, st, *d); err != nil {
		return err
	}
	if !opt.Activate || d.Current {
		return nil
	}
	done.Activated = true
	return s.switchTo(ctx, d.Ref)
}

// maxMembers bounds what members without content take, of memory and of inodes:
// a million of them is nothing in an archive, and no sum of sizes. The largest
// runtimes have a fifth of that.
const maxMembers = 1 << 20

// unpack holds the donors for as long as it takes.
func (s *Store) unpack(ctx context.Context, a source.Artifact, ref Ref, dst *os.File, opt InstallOptions) (*archive.Tree, error) {
	limits := archive.Options{LockFile: refFile, MaxSize: opt.MaxSize, MaxMembers: maxMembers, VerifyDonors: opt.VerifyDonors, WriteBack: !opt.NoSync, Read: opt.Read}
	if !opt.NoDedup {
		donors, err := s.holdDonors(ctx, ref)
		if err != nil {
			return nil, err
		}
		defer donors.release()
		limits.Donors = donors.list
	}
	if a.Directory != "" {
		return archive.Copy(ctx, a.Directory, dst, limits)
	}
	random, size, err := a.OpenRandom(ctx)
	if err != nil {
		return nil, err
	}
	if random != nil {
		defer random.Close()
		if a.TOC != "" {
			return unpackIndexed(ctx, random, size, a.TOC, dst, limits)
		}
		limits.Whole = &archive.Whole{ReaderAt: random, Size: size}
	}
	if a.TOC != "" {
		return nil, fmt.Errorf("%w: the digest of its table of contents is known, but %q cannot be read at any place", source.ErrUnavailable, a.Origin)
	}
	r, err := a.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return archive.Unpack(ctx, r, dst, limits)
}

func unpackIndexed(ctx context.Context, r io.ReaderAt, size int64, toc string, dst *os.File, opt archive.Options) (*archive.Tree, error) {
	digest, ok := strings.CutPrefix(toc, "sha256:")
	sum, err := hex.DecodeString(digest)
	if err != nil || !ok || len(sum) != 32 {
		return nil, fmt.Errorf("%w: the digest %q of a table of contents", source.ErrDigest, toc)
	}
	return archive.UnpackIndexed(ctx, r, size, [32]byte(sum), dst, opt)
}

// describeTree writes what goes beside files/.
func describeTree(tree dir, ref Ref, a source.Artifact, content *archive.Tree) error {
	err := tree.fillFile(manifestFile, func(w io.Writer) error {
		m := manifest.NewWriter(w)
		for _, e := range content.Entries {
			if err := m.Write(e); err != nil {
				return err
			}
		}
		return m.Close()
	})
	if err != nil {
		return err
	}
	r := record{
		Name: ref.Name, Version: ref.Version, Origin: a.Origin,
		Installed: time.Now().UTC().Truncate(time.Second),
		Size:      content.Size, Links: content.LinkGroups,
	}
	switch {
	case content.Digest != [32]byte{}:
		r.Digest = fmt.Sprintf("sha256:%x", content.Digest)
	case a.Directory == "":
		r.TOC = a.TOC
	}
	text, err := r.encode()
	if err != nil {
		return err
	}
	return tree.fillFile(deploymentFile, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(text))
		return err
	})
}
