// Package store keeps deployments: versions of runtimes, each a directory tree
// with a lock file in it, side by side below one directory.
//
// What is on the disk is the whole state; docs/store.md describes it. Every
// method looks afresh, so that any number of processes can work on one store.
// Readers (List, Hold, Verify) write nothing and work on a store that they may
// only read. Whatever changes the store begins by draining the trash.
//
// The protocol that keeps a deployment from vanishing under its users is
// docs/protocol.md. Its parts are, in that order: the reader in hold.go, the
// collector in collect.go and settle.go, the drain in drain.go, the stages in
// stage.go, the installer in install.go and publish.go, the switcher in
// switch.go.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"berth/lock"
)

// The names of the layout.
const (
	formatFile  = "store.toml"
	lockFile    = "lock"
	runtimesDir = "runtimes"
	stagingDir  = "staging"
	trashDir    = "trash"

	currentLink    = "current"
	filesDir       = "files"
	refFile        = ".ref"
	metadataFile   = "metadata"
	manifestFile   = "manifest.mtree.gz"
	deploymentFile = "deployment.toml"
	activatedFile  = "activated"
	keepFile       = "keep"
	deferredFile   = "deferred"
)

const (
	format     = 1
	formatText = "format = 1\n"
	maxFormat  = 64 << 10 // bytes
)

// Options are what a store needs from outside.
type Options struct {
	// Looker finds who uses a tree. Without one nothing can be deleted.
	Looker Looker
	// RequireCompleteEvidence, if not nil, is asked before something is deleted
	// that nobody was seen to use while not everybody could be seen. If it
	// says so, or fails, that is kept.
	RequireCompleteEvidence func() (bool, error)
	// Notice, if not nil, is told once of every wait for somebody else, such
	// as "waiting for another installation of demo@1.0".
	Notice func(what string)
	// Deleted, if not nil, is told the bytes that deleting has freed since it
	// was last told. The calls are never concurrent.
	Deleted func(bytes int64)
}

// A Store is an open store. Its methods may be called concurrently. The caller
// closes it.
type Store struct {
	opt  Options
	root dir
	// The parts that are renamed from and into. The last two are missing where
	// somebody has deleted them; complete makes them again.
	runtimes, staging, trash dir
	completing               sync.Mutex
}

// Path is the absolute path by which the store was opened.
func (s *Store) Path() string { return s.root.Name() }

// Close lets the directory go. Holds and stages that came from s live on.
func (s *Store) Close() error { return errors.Join(s.root.Close(), s.closeParts()) }

func (s *Store) closeParts() error {
	var errs []error
	for _, d := range []dir{s.runtimes, s.staging, s.trash} {
		if d.File != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// Open opens the store at path. The error is ErrNoStore if there is nothing or
// an empty directory, ErrForeign if there is something else than a store.
func Open(path string, opt Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cannot find the store: %w", err)
	}
	s, err := open(path, opt)
	if err != nil {
		return nil, fmt.Errorf("cannot open the store %s: %w", path, err)
	}
	return s, nil
}

func open(path string, opt Options) (_ *Store, err error) {
	s := &Store{opt: opt}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	s.root, err = openDirPath(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, ErrNoStore
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%w: it is not a directory", ErrForeign)
	case err != nil:
		return nil, err
	}
	if err := s.checkFormat(); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name string
		to   *dir
	}{{runtimesDir, &s.runtimes}, {stagingDir, &s.staging}, {trashDir, &s.trash}} {
		*part.to, err = s.root.openDir(part.name)
		if err != nil && (part.name == runtimesDir || !errors.Is(err, os.ErrNotExist)) {
			return nil, err
		}
	}
	return s, nil
}

// complete makes what whoever changes the store needs and somebody has deleted,
// a directory with everything in it perhaps.
func (s *Store) complete() error {
	s.completing.Lock()
	defer s.completing.Unlock()
	for name, part := range map[string]*dir{stagingDir: &s.staging, trashDir: &s.trash} {
		if part.File != nil {
			continue
		}
		d, err := s.root.makeDir(name)
		if err != nil {
			return err
		}
		*part = d
	}
	if there, err := s.root.exists(lockFile); there || err != nil {
		return err
	}
	f, err := s.root.createFile(lockFile, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func (s *Store) checkFormat() error {
	f, err := s.root.openFile(formatFile, unix.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return s.checkUnborn()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFormat))
	if err != nil {
		return err
	}
	// As it was written, it need not be parsed: run and exec are in a hurry.
	if string(text) == formatText {
		return nil
	}
	var head struct{ Format int }
	if err := toml.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrForeign, formatFile, err)
	}
	if head.Format != format {
		return fmt.Errorf("%w: its format is %d, this program knows %d", ErrForeign, head.Format, format)
	}
	return nil
}

// checkUnborn tells a store whose making was interrupted, and an empty
// directory, from a directory that somebody uses for something else, and from a
// store with runtimes, which were made after store.toml was.
func (s *Store) checkUnborn() error {
	list, err := s.root.entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		switch e.Name() {
		case runtimesDir:
			runtimes, err := s.root.openDir(runtimesDir)
			if err != nil {
				return err
			}
			list, err := runtimes.entries()
			runtimes.Close()
			if err != nil {
				return err
			}
			if len(list) == 0 {
				continue
			}
			if born, err := s.root.exists(formatFile); err != nil {
				return err
			} else if born {
				return s.checkFormat()
			}
			return ErrUnmarked
		case lockFile, stagingDir, trashDir, "." + formatFile + ".new":
		case formatFile: // born in this moment
			return s.checkFormat()
		default:
			return fmt.Errorf("%w: it holds %q and no %s", ErrForeign, e.Name(), formatFile)
		}
	}
	return ErrNoStore
}

// Create opens the store at path and makes it first if there is nothing or an
// empty directory. Several processes may do that at once.
func Create(ctx context.Context, path string, opt Options) (*Store, error) {
	s, err := Open(path, opt)
	if !errors.Is(err, ErrNoStore) {
		return s, err
	}
	if path, err = filepath.Abs(path); err == nil {
		err = makeStore(ctx, path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the store %s: %w", path, err)
	}
	return Open(path, opt)
}

// makeStore writes store.toml last: only then is it a store.
func makeStore(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	root, err := makeRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	s := &Store{root: root}
	defer s.closeParts()
	return s.locked(ctx, func() error {
		if there, err := root.exists(formatFile); there || err != nil {
			return err
		}
		if s.runtimes, err = root.makeDir(runtimesDir); err != nil {
			return err
		}
		return root.writeFile(formatFile, []byte(formatText))
	})
}

// makeRoot makes the directory of a store, or opens the one that is there. Below
// a parent that others can write to, it may be another one than was looked at
// before, or than has just been made: it is looked at again, and only then
// changed, by its descriptor.
func makeRoot(path string) (_ dir, err error) {
	made := os.Mkdir(path, 0o755)
	if made != nil && !errors.Is(made, os.ErrExist) {
		return dir{}, made
	}
	root, err := openDirPath(path)
	if err != nil {
		return dir{}, err
	}
	if err = (&Store{root: root}).checkUnborn(); err != nil && !errors.Is(err, ErrNoStore) {
		root.Close()
		return dir{}, err
	}
	if made == nil {
		if err := unix.Fchmod(int(root.Fd()), 0o755); err != nil {
			root.Close()
			return dir{}, root.fail("chmod", ".", err)
		}
	}
	return root, nil
}

// locked runs fn under the store lock, for which it waits. The lock is held
// for the moment of a rename only, never while unpacking or deleting, and
// readers never take it. Not re-entrant; it excludes goroutines as well as
// processes, and on NFS other machines.
func (s *Store) locked(ctx context.Context, fn func() error) error {
	for {
		f, err := s.lock(ctx)
		if errors.Is(err, errAgain) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return fn()
	}
}

// lock waits for the store lock. The error is errAgain if the file is not the
// store's any more: somebody has deleted it, and others lock the new one.
func (s *Store) lock(ctx context.Context) (f *os.File, err error) {
	if err := s.complete(); err != nil {
		return nil, err
	}
	if f, err = s.root.openFile(lockFile, unix.O_RDWR); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := lock.Wait(ctx, f, lock.Write, func() { s.notice("waiting for the store lock") }); err != nil {
		return nil, err
	}
	locked, err := fstat(f)
	if err != nil {
		return nil, err
	}
	named, err := s.root.lstat(lockFile)
	if errors.Is(err, os.ErrNotExist) || err == nil && idOf(&named) != idOf(&locked) {
		err = errAgain
	}
	return f, err
}

func (s *Store) notice(what string) {
	if s.opt.Notice != nil {
		s.opt.Notice(what)
	}
}

// runtime opens the directory of one runtime. The error is ErrNotFound if
// there is none.
func (s *Store) runtime(name string) (dir, error) {
	d, err := s.runtimes.openDir(name)
	return d, missing(err)
}
