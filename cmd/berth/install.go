package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"berth/gc"
	"berth/store"
	"berth/store/archive"
	"berth/store/source"
)

const tocUsage = "--toc-sha256 is the digest of an archive's table, 64 hexadecimal digits"

const noSyncUsage = "do not wait for the disk: not safe against a power cut"

type installOptions struct {
	what     string
	as       string
	activate bool
	force    bool
	noSync   bool
	verify   bool
	toc      string
}

func (a *app) installCommand() *cli.Command {
	var opt installOptions
	return command(&cli.Command{
		Name:      "install",
		Usage:     "unpack one more version of a runtime",
		ArgsUsage: "SOURCE|NAME[@VERSION]",
		Description: `SOURCE is an archive (tar, plain or in zstd, gzip, xz or bzip2) or a
directory, with a slash in its name unless that ends like an archive's. NAME is
a runtime of the configuration, whose channel is asked.
The first version of a runtime becomes current; a later one with --switch.
Files that the current version, or one of the two that were current last, has
already are linked, not written.

Example: berth install sniper-3.0.20250108.112707.tar.gz --switch`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "as", Usage: "install it as `NAME@VERSION`", Destination: &opt.as},
			&cli.BoolFlag{Name: "switch", Usage: "make it the current version", Destination: &opt.activate},
			&cli.BoolFlag{Name: "force", Usage: "replace the version if it is installed and nobody uses it", Destination: &opt.force},
			&cli.BoolFlag{Name: "no-sync", Usage: noSyncUsage, Destination: &opt.noSync},
			&cli.StringFlag{Name: "toc-sha256", Usage: "read only the table of contents, which has to have the digest `HEX`, and what is missing", Destination: &opt.toc},
			&cli.BoolFlag{Name: "verify-donors", Usage: "compare the content of unchanged files before they are linked", Destination: &opt.verify},
		},
		Action: func(c *cli.Context) error {
			var err error
			if opt.what, err = oneArg(c, "what to install"); err != nil {
				return err
			}
			// An empty one is what a script has that failed to find the digest.
			if c.IsSet("toc-sha256") && opt.toc == "" {
				return usageError(tocUsage)
			}
			if c.IsSet("as") && opt.as == "" {
				return usageError("--as: NAME@VERSION is empty")
			}
			return a.runInstall(c.Context, opt)
		},
	})
}

func (a *app) runInstall(ctx context.Context, opt installOptions) error {
	artifact, err := a.artifact(ctx, opt.what, opt.as)
	if err != nil {
		return err
	}
	if opt.toc != "" {
		if sum, err := hex.DecodeString(opt.toc); err != nil || len(sum) != sha256.Size || artifact.Directory != "" {
			return usageError(tocUsage)
		}
		artifact.TOC = "sha256:" + strings.ToLower(opt.toc)
	}
	done, err := a.install(ctx, artifact, opt)
	if err != nil {
		return err
	}
	if a.json {
		out := resultJSON{Installed: installedJSON(done)}
		out.add(gc.Result{})
		return a.printJSON(out)
	}
	return nil
}

// artifact finds what an argument of install means.
func (a *app) artifact(ctx context.Context, what, as string) (source.Artifact, error) {
	if !isSource(what) {
		artifact, err := a.fromChannel(ctx, what, as)
		return artifact, orFile(what, err)
	}
	artifact, err := source.File(what)
	if err != nil {
		return artifact, err
	}
	if as != "" {
		ref, err := store.ParseRef(as)
		if err != nil {
			return artifact, err
		}
		if ref.Version == "" {
			return artifact, usageError(fmt.Sprintf("--as %s: a version is needed, NAME@VERSION", as))
		}
		artifact.Name, artifact.Version = ref.Name, ref.Version
	}
	if !store.ValidName(artifact.Name) || !store.ValidVersion(artifact.Version) {
		if err := nameFromMetadata(ctx, &artifact); err != nil {
			return artifact, err
		}
	}
	return artifact, nil
}

// isSource tells a file from a name of the configuration.
func isSource(what string) bool {
	return strings.ContainsRune(what, os.PathSeparator) || what == "." || what == ".." || source.IsArchive(what)
}

// orFile says how to name a file, if there is one where a ref was understood
// and not found.
func orFile(what string, err error) error {
	if status := statusOf(err); err == nil || status != exitUsage && status != exitNotFound {
		return err
	}
	if _, missing := os.Lstat(what); missing != nil {
		return err
	}
	return &hintedError{err, "for the file or directory, write " + safe("./"+what)}
}

// nameFromMetadata takes name and version from the archive itself, which has
// to be read for that: a pipe would have nothing left to install.
func nameFromMetadata(ctx context.Context, artifact *source.Artifact) error {
	if artifact.Directory == "" && artifact.Size < 0 {
		return nameless(artifact)
	}
	text, err := metadataOf(ctx, *artifact)
	if err != nil {
		return fmt.Errorf("cannot tell the name and version of %q: %w", artifact.Origin, err)
	}
	name, version := archive.Identity(text)
	if !store.ValidName(name) || !store.ValidVersion(version) {
		return nameless(artifact)
	}
	artifact.Name, artifact.Version = name, version
	return nil
}

func nameless(artifact *source.Artifact) error {
	return &hintedError{
		usageError(fmt.Sprintf("cannot tell the name and version of %q", artifact.Origin)),
		"give them with --as NAME@VERSION",
	}
}

func metadataOf(ctx context.Context, artifact source.Artifact) ([]byte, error) {
	if artifact.Directory != "" {
		return archive.DirectoryMetadata(artifact.Directory)
	}
	r, err := artifact.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return archive.Metadata(ctx, r)
}

// fromChannel finds a version of a runtime in its channel: the greatest, if
// the ref has none.
func (a *app) fromChannel(ctx context.Context, what, as string) (source.Artifact, error) {
	if as != "" {
		return source.Artifact{}, usageError("--as goes with a file or directory only")
	}
	ref, err := store.ParseRef(what)
	if err != nil {
		return source.Artifact{}, err
	}
	offers, err := a.offers(ctx, ref.Name)
	if err != nil {
		return source.Artifact{}, err
	}
	if ref.Version == "" {
		return newest(offers), nil
	}
	for _, o := range offers {
		if o.Version == ref.Version {
			return o, nil
		}
	}
	return source.Artifact{}, &store.RefError{Op: "install", Ref: ref, Err: fmt.Errorf("the channel does not have it: %w", source.ErrNotFound)}
}

// install carries out one installation and tells what was done.
func (a *app) install(ctx context.Context, artifact source.Artifact, opt installOptions) (*store.Installed, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	s, err := a.create(ctx, a.options())
	if err != nil {
		return nil, err
	}
	defer s.Close()
	// Unpacking makes little garbage beside what it holds: collecting that more
	// often costs nothing to speak of, and keeps an upgrade below 64 MiB.
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	// A large trash holds up nobody who has room for what he installs.
	drained := make(chan error, 1)
	var freed int64
	go func() {
		var err error
		freed, err = a.drain(ctx, s)
		drained <- err
	}()
	try := func() (*store.Installed, error) {
		meter := a.meter("installing "+artifact.Name+"@"+artifact.Version, artifact.Size)
		defer meter.stop()
		return s.Install(ctx, artifact, store.InstallOptions{
			Activate: opt.activate, Force: opt.force, NoSync: opt.noSync,
			NoDedup: !cfg.Store.Dedup, VerifyDonors: opt.verify,
			MaxSize: cfg.Store.MaxUnpacked, Read: meter.add,
		})
	}
	done, err := try()
	if err == nil {
		a.tellInstalled(done)
		if err := <-drained; err != nil {
			a.note("%v", err)
		}
		return done, nil
	}
	drainErr := <-drained
	// What is listed by now, or was before, has not failed for want of room. A
	// pipe cannot be read twice.
	_, listed := s.Lookup(store.Ref{Name: artifact.Name, Version: artifact.Version})
	again := artifact.Directory != "" || artifact.Size >= 0
	if drainErr != nil || !isFull(err) || freed == 0 || !again || !errors.Is(listed, store.ErrNotFound) {
		return nil, errors.Join(err, drainErr)
	}
	a.note("once more, now that the trash is empty: %v", err)
	if done, err = try(); err == nil {
		a.tellInstalled(done)
	}
	return done, err
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// drain begins every change of a store, and says what it could not do.
func (a *app) drain(ctx context.Context, s *store.Store) (freed int64, err error) {
	remnants, err := s.Drain(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range remnants {
		freed += r.Freed
		switch {
		case r.Err == nil:
			a.detail("removed the rest of %s, which freed %s", r.Ref, size(r.Freed))
		case isBusy(r.Err):
			a.detail("%s waits in the trash: %v", r.Ref, r.Err)
		default:
			a.note("cannot remove %q: %v", r.Path, r.Err)
		}
	}
	return freed, nil
}

func (a *app) tellInstalled(done *store.Installed) {
	if done.Warning != nil {
		a.note("%v", done.Warning)
	}
	switch {
	case done.Reprieved && !done.Activated:
		a.note("%s is installed already; it is not to be removed any more", done.Ref)
	case done.Already && done.Activated:
		a.note("%s was installed; it is current now", done.Ref)
	case done.Already:
		a.note("%s is installed already", done.Ref)
	case done.Replaced && done.Activated:
		a.note("replaced %s (%s); it is current", done.Ref, amount(done))
	case done.Replaced:
		a.note("replaced %s (%s)", done.Ref, amount(done))
	case done.Activated:
		a.note("installed %s (%s); it is current", done.Ref, amount(done))
	default:
		a.note("installed %s (%s)", done.Ref, amount(done))
	}
	for _, path := range done.Changed {
		a.note("not reused, because it is not as it was installed: %q", path)
	}
	d := done.Dropped
	for _, left := range []struct {
		n    int
		what string
	}{
		{d.SetID, "setuid or setgid bits"},
		{d.Xattrs, "extended attributes other than user.*"},
		{d.Nodes, "devices, fifos or sockets"},
		{d.Beside, "names beside files/ and metadata"},
	} {
		if left.n > 0 {
			a.note("left out: %s (%d)", left.what, left.n)
		}
	}
}

// amount tells how large a version is, and what of it did not need writing.
func amount(done *store.Installed) string {
	if done.Reused == 0 {
		return size(done.Size)
	}
	return fmt.Sprintf("%s, of which %s written", size(done.Size), size(done.Size-done.Reused))
}
