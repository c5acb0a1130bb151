package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"berth/lock"
	"berth/store/manifest"
)

// Answer is one of yes, no and unknown.
type Answer string

const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// A Deployment is what can be said about one version at one moment.
type Deployment struct {
	Ref        Ref
	Current    bool
	Pinned     bool
	Deferred   bool      // condemned by "remove --defer"
	DeferredAt time.Time // when; zero if it is not
	// Locked tells whether somebody holds a lock on its files/.ref. Unknown
	// comes with Err.
	Locked    Answer
	Size      int64     // content in bytes, each inode once
	Installed time.Time // when it was published
	Activated time.Time // when it last became current; zero if never
	Origin    string    // where it came from
	Digest    string    // of the archive, "sha256:HEX"; "" of a directory, or where only TOC is known
	TOC       string    // of the archive's table of contents, likewise
	// Err says why it is broken or cannot be examined. The rest may be zero.
	Err error

	id   fileID
	path string
}

// Path is the absolute path of the deployment's directory.
func (d *Deployment) Path() string { return d.path }

// record is deployment.toml.
type record struct {
	Name      string    `toml:"name"`
	Version   string    `toml:"version"`
	Origin    string    `toml:"origin"`
	Digest    string    `toml:"digest,omitempty"`
	TOC       string    `toml:"toc,omitempty"`
	Installed time.Time `toml:"installed"`
	Size      int64     `toml:"size"`
	// Links are the groups of paths in files/ that share an inode, which the
	// manifest cannot say.
	Links [][]string `toml:"links,omitempty"`
}

// TOML is UTF-8, and paths are bytes: what is none is written as in the
// manifest, a backslash and three octal digits, and so are backslashes.

func (r record) encode() ([]byte, error) {
	r.Origin = escapeBytes(r.Origin)
	groups := r.Links
	r.Links = make([][]string, len(groups))
	for i, group := range groups {
		for _, path := range group {
			r.Links[i] = append(r.Links[i], escapeBytes(path))
		}
	}
	var buf bytes.Buffer
	err := toml.NewEncoder(&buf).Encode(r)
	return buf.Bytes(), err
}

func (r *record) unescape() (err error) {
	unescape := func(s *string) {
		if err == nil {
			*s, err = manifest.Unescape(*s)
		}
	}
	unescape(&r.Origin)
	for _, group := range r.Links {
		for i := range group {
			unescape(&group[i])
		}
	}
	return err
}

func escapeBytes(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 || r == '\\' {
			fmt.Fprintf(&b, `\%03o`, s[0])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

func readRecord(dep dir) (*record, error) {
	f, err := dep.openFile(deploymentFile, unix.O_RDONLY)
	if err != nil {
		return nil, broken(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	r := new(record)
	if err := toml.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBroken, f.Name(), err)
	}
	if err := r.unescape(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBroken, f.Name(), err)
	}
	return r, nil
}

// List describes the deployments of the runtime, or of all runtimes if name is
// "", ordered by name and version. What is broken is in the list, with its
// Err. The error is ErrNotFound if name is not installed.
func (s *Store) List(name string) ([]Deployment, error) {
	names := []string{name}
	if name == "" {
		var err error
		if names, err = s.names(); err != nil {
			return nil, fmt.Errorf("cannot list the runtimes: %w", err)
		}
	}
	lists := make([][]Deployment, len(names))
	var workers errgroup.Group
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for i, n := range names {
		workers.Go(func() (err error) {
			lists[i], err = s.listRuntime(n)
			if errors.Is(err, ErrNotFound) && name == "" {
				return nil // its last version has gone since the names were read
			}
			if err != nil {
				return &RefError{"list", Ref{Name: n}, err}
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(lists...), nil
}

// openDeployment opens the directory of what is listed, without a hold. The
// error is ErrNotFound if it is not.
func (s *Store) openDeployment(ref Ref) (dir, error) {
	rt, err := s.runtime(ref.Name)
	if err != nil {
		return dir{}, err
	}
	defer rt.Close()
	dep, err := rt.openDir(ref.Version)
	return dep, missing(err)
}

func (s *Store) names() ([]string, error) {
	list, err := s.runtimes.entries()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if e.IsDir() && ValidName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (s *Store) listRuntime(name string) ([]Deployment, error) {
	if !ValidName(name) {
		return nil, ErrNotFound
	}
	rt, err := s.runtime(name)
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	current, linkErr := currentOf(rt)
	entries, err := rt.entries()
	if err != nil {
		return nil, err
	}
	var list []Deployment
	for _, e := range entries {
		if !e.IsDir() || !ValidVersion(e.Name()) {
			continue
		}
		d := describe(rt, Ref{name, e.Name()})
		if errors.Is(d.Err, ErrNotFound) {
			continue
		}
		d.Current = d.Ref.Version == current
		if linkErr != nil && d.Err == nil {
			d.Err = linkErr
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil, ErrNotFound
	}
	slices.SortFunc(list, func(a, b Deployment) int {
		return CompareVersions(a.Ref.Version, b.Ref.Version)
	})
	return list, nil
}

// describe looks at one version. Err is ErrNotFound if it is not there, or has
// gone while it was looked at.
func describe(rt dir, ref Ref) Deployment {
	d := Deployment{Ref: ref, Locked: Unknown, path: filepath.Join(rt.Name(), ref.Version)}
	dep, err := rt.openDir(ref.Version)
	if err != nil {
		d.Err = missing(err)
		return d
	}
	defer dep.Close()
	if d.Err = d.examine(dep); d.Err != nil {
		if there, err := rt.exists(ref.Version); err == nil && !there {
			d.Err = ErrNotFound
		}
	}
	return d
}

func (d *Deployment) examine(dep dir) error {
	st, err := fstat(dep.File)
	if err != nil {
		return err
	}
	d.id = idOf(&st)
	var keepErr, deferredErr, activatedErr error
	d.Pinned, _, keepErr = dep.marker(keepFile)
	d.Deferred, d.DeferredAt, deferredErr = dep.marker(deferredFile)
	_, d.Activated, activatedErr = dep.marker(activatedFile)
	if err := errors.Join(keepErr, deferredErr, activatedErr); err != nil {
		return err
	}
	r, recordErr := readRecord(dep)
	if recordErr == nil {
		d.Size, d.Installed, d.Origin, d.Digest, d.TOC = r.Size, r.Installed, r.Origin, r.Digest, r.TOC
	}
	return errors.Join(d.probe(dep), recordErr)
}

// marker tells since when a deployment has a mark, if it has.
func (d dir) marker(name string) (present bool, since time.Time, err error) {
	st, err := d.lstat(name)
	if err != nil {
		return false, time.Time{}, ignoreMissing(err)
	}
	return true, modTime(&st), nil
}

// probe asks whether a collector would get the lock. It changes nothing and
// does with a descriptor that is open for reading.
func (d *Deployment) probe(dep dir) error {
	f, err := openRef(dep, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	conflict, err := lock.Probe(f, lock.Write)
	if err != nil {
		return err
	}
	d.Locked = No
	if conflict != nil {
		d.Locked = Yes
	}
	return nil
}

// lookup describes one deployment, which must be there.
func (s *Store) lookup(ref Ref) (*Deployment, error) {
	rt, err := s.runtime(ref.Name)
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	current, err := currentOf(rt)
	if err != nil {
		return nil, err
	}
	byName := ref.Version == ""
	if byName {
		if current == "" {
			return nil, ErrNoCurrent
		}
		ref.Version = current
	}
	d := describe(rt, ref)
	if errors.Is(d.Err, ErrNotFound) {
		// The link names nothing, unless somebody has just set it anew.
		if now, err := currentOf(rt); byName && err == nil && now == current {
			return nil, ErrNoCurrent
		}
		return nil, ErrNotFound
	}
	d.Current = ref.Version == current
	return &d, nil
}

// Lookup describes one deployment: the current one if ref has no version. The
// error is ErrNotFound or ErrNoCurrent if there is none. A deployment that is
// there and broken has its Err set.
func (s *Store) Lookup(ref Ref) (*Deployment, error) {
	d, err := s.lookup(ref)
	if err != nil {
		return nil, &RefError{"find", ref, err}
	}
	return d, nil
}

// trashName is the name under which a tree waits in the trash for deletion.
func trashName(ref Ref, random string) string { return ref.String() + "." + random }

// refOfTrash undoes trashName. What somebody else has put into the trash has
// the name that he gave it, quoted.
func refOfTrash(name string) Ref {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		if ref, err := ParseRef(name[:i]); err == nil && ref.Version != "" {
			return ref
		}
	}
	return Ref{Name: strconv.QuoteToASCII(name)}
}
