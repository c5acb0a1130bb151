package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"berth/store/manifest"
)

// assembly builds a tree by its manifest, of files that are installed.
type assembly struct {
	ctx    context.Context
	tree   dir    // where files/ is made
	own    string // the path of the files/ that is repaired
	copies map[[sha256.Size]byte][]string
	first  map[string]string // by path: the first of its group of hard links
	made   map[string]bool
}

// assemble builds the tree of d anew: files/ and what lies beside it. Every
// file is copied, never linked, and its digest is checked on the way.
func (s *Store) assemble(ctx context.Context, tree dir, d *Deployment) error {
	rt, err := s.runtime(d.Ref.Name)
	if err != nil {
		return err
	}
	defer rt.Close()
	dep, err := rt.openDir(d.Ref.Version)
	if err != nil {
		return missing(err)
	}
	defer dep.Close()
	expected, err := readManifest(dep)
	if err != nil {
		return err
	}
	r, err := readRecord(dep)
	if err != nil {
		return err
	}
	if err := copyBeside(dep, tree); err != nil {
		return err
	}
	a := &assembly{ctx: ctx, tree: tree, own: filepath.Join(rt.Name(), d.Ref.Version, filesDir), first: make(map[string]string), made: make(map[string]bool)}
	if a.copies, err = s.copiesOf(rt, d.Ref.Version, expected); err != nil {
		return err
	}
	for _, group := range r.Links {
		for _, p := range group {
			a.first[p] = group[0]
		}
	}
	return a.build(expected)
}

// copyBeside copies what describes the deployment: metadata, manifest, record.
func copyBeside(from, to dir) error {
	for _, name := range []string{metadataFile, manifestFile, deploymentFile} {
		f, err := from.openFile(name, unix.O_RDONLY)
		if name == metadataFile && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = to.fillFile(name, func(w io.Writer) error {
			_, err := io.Copy(w, f)
			return err
		})
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// copiesOf lists, by digest, the paths in the store where the files that are
// expected should be: of the version itself, then of the others.
func (s *Store) copiesOf(rt dir, version string, expected map[string]manifest.Entry) (map[[sha256.Size]byte][]string, error) {
	copies := make(map[[sha256.Size]byte][]string)
	enter := func(version string, entries map[string]manifest.Entry) {
		for _, p := range slices.Sorted(maps.Keys(entries)) {
			if e := entries[p]; e.Type == manifest.File {
				copies[e.Digest] = append(copies[e.Digest], filepath.Join(rt.Name(), version, filesDir, p))
			}
		}
	}
	enter(version, expected)
	list, err := rt.entries()
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if !e.IsDir() || !ValidVersion(e.Name()) || e.Name() == version {
			continue
		}
		dep, err := rt.openDir(e.Name())
		if err != nil {
			continue // gone meanwhile, or broken: it is no help
		}
		entries, err := readManifest(dep)
		dep.Close()
		if err == nil {
			enter(e.Name(), entries)
		}
	}
	return copies, nil
}

func readManifest(dep dir) (map[string]manifest.Entry, error) {
	v := &verification{}
	err := v.load(dep)
	return v.expected, err
}

// build makes every member, parents first, and gives directories their modes
// and times last, the deepest first.
func (a *assembly) build(expected map[string]manifest.Entry) error {
	order := slices.Sorted(maps.Keys(expected))
	files, err := a.tree.makeDir(filesDir)
	if err != nil {
		return err
	}
	defer files.Close()
	for _, p := range order {
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		if p == "." {
			continue
		}
		if err := a.member(files, expected[p]); err != nil {
			return err
		}
	}
	slices.SortFunc(order, func(x, y string) int { return strings.Count(y, "/") - strings.Count(x, "/") })
	if i := slices.Index(order, "."); i >= 0 {
		order = append(slices.Delete(order, i, i+1), ".")
	}
	for _, p := range order {
		if e := expected[p]; e.Type == manifest.Dir {
			if err := a.seal(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// in opens the directory of the new tree that a path is in. Nobody else has
// anything to do there.
func (a *assembly) in(files dir, p string) (dir, string, error) {
	d, err := files.openDir(".")
	if err != nil {
		return dir{}, "", err
	}
	parent, base := path.Split(p)
	for _, part := range strings.Split(strings.Trim(parent, "/"), "/") {
		if part == "" {
			continue
		}
		next, err := d.openDir(part)
		d.Close()
		if err != nil {
			return dir{}, "", err
		}
		d = next
	}
	return d, base, nil
}

func (a *assembly) member(files dir, e manifest.Entry) error {
	d, name, err := a.in(files, e.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	switch e.Type {
	case manifest.Dir:
		sub, err := d.makeDir(name)
		if err != nil {
			return err
		}
		return sub.Close()
	case manifest.Link:
		if err := d.symlink(e.Link, name); err != nil {
			return err
		}
		return d.setTime(name, e)
	}
	if first := a.first[e.Path]; first != "" && first != e.Path && a.made[first] {
		from, fromName, err := a.in(files, first)
		if err != nil {
			return err
		}
		defer from.Close()
		err = unix.Linkat(int(from.Fd()), fromName, int(d.Fd()), name, 0)
		return linkError("link", from.path(fromName), d.path(name), err)
	}
	a.made[e.Path] = true
	// Others of that content may have other attributes.
	for _, candidate := range append([]string{filepath.Join(a.own, e.Path)}, a.copies[e.Digest]...) {
		if ok, err := a.copyFile(d, name, e, candidate); ok || err != nil {
			return err
		}
	}
	if e.Size == 0 && e.Digest == sha256.Sum256(nil) {
		_, err := a.write(d, name, e, bytes.NewReader(nil))
		return err
	}
	return errNowhere(e.Path)
}

// copyFile copies a file if it is what is expected. ok is false if it is not.
func (a *assembly) copyFile(d dir, name string, e manifest.Entry, from string) (ok bool, err error) {
	fd, err := unix.Open(from, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, nil
	}
	f := os.NewFile(uintptr(fd), from)
	defer f.Close()
	st, err := checkRegular(f)
	if err != nil || st.Size != e.Size {
		return false, nil
	}
	return a.write(d, name, e, f)
}

// write makes the file, and takes it away again if the content is another than
// expected.
func (a *assembly) write(d dir, name string, e manifest.Entry, from io.Reader) (ok bool, err error) {
	f, err := d.createFile(name, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(f, io.TeeReader(from, hash))
	if err != nil {
		return false, fmt.Errorf("copy %q: %w", e.Path, err)
	}
	if n != e.Size || [sha256.Size]byte(hash.Sum(nil)) != e.Digest {
		return false, d.unlink(name)
	}
	if src, isFile := from.(*os.File); isFile {
		copyXattrs(src, f)
	}
	if err := unix.Fchmod(int(f.Fd()), e.Mode); err != nil {
		return false, d.fail("chmod", name, err)
	}
	return true, d.setTime(name, e)
}

// copyXattrs copies the user.* attributes. The manifest does not have them,
// so that nothing tells whether they are what they were.
func copyXattrs(from, to *os.File) {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(from.Fd()), names)
	if err != nil {
		return
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		if n, err := unix.Fgetxattr(int(from.Fd()), name, value); err == nil {
			_ = unix.Fsetxattr(int(to.Fd()), name, value[:n], 0)
		}
	}
}

func (a *assembly) seal(e manifest.Entry) error {
	parent, name := a.tree, filesDir
	if e.Path != "." {
		files, err := a.tree.openDir(filesDir)
		if err != nil {
			return err
		}
		defer files.Close()
		if parent, name, err = a.in(files, e.Path); err != nil {
			return err
		}
		defer parent.Close()
	}
	d, err := parent.openDir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if old, err := os.Open(filepath.Join(a.own, e.Path)); err == nil {
		copyXattrs(old, d.File)
		old.Close()
	}
	if err := unix.Fchmod(int(d.Fd()), e.Mode); err != nil {
		return d.fail("chmod", ".", err)
	}
	return parent.setTime(name, e)
}
