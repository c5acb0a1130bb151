package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"berth/store/manifest"
)

// A Difference is a member of a deployment that is not what its manifest says.
type Difference struct {
	Path string // relative to files/
	What string // "missing", "extra", "changed: size is 3, not 5"
	// Unread says that it could not be looked at, so that it may be what it
	// should be.
	Unread bool
}

// Verify holds a deployment and compares its files with its manifest: type,
// mode, size, modification time, content, link target, and which members are
// hard links of one another. read, if not nil, is told the bytes that have
// been read since it was last told, from several goroutines. The differences
// are ordered by path.
func (s *Store) Verify(ctx context.Context, ref Ref, read func(n int64)) (Ref, []Difference, error) {
	h, err := s.hold(ctx, ref)
	if err != nil {
		return ref, nil, &RefError{"verify", ref, err}
	}
	defer h.Release()
	v := &verification{read: read}
	if err := v.run(ctx, h.dep); err != nil {
		return h.Ref, nil, &RefError{"verify", h.Ref, err}
	}
	slices.SortFunc(v.found, func(a, b Difference) int {
		return strings.Compare(a.Path+"\x00"+a.What, b.Path+"\x00"+b.What)
	})
	return h.Ref, v.found, nil
}

type verification struct {
	read     func(int64)
	expected map[string]manifest.Entry
	inodes   map[string]fileID // of the regular files that were found

	mu    sync.Mutex
	found []Difference
}

func (v *verification) run(ctx context.Context, dep dir) error {
	if err := v.load(dep); err != nil {
		return err
	}
	record, err := readRecord(dep)
	if err != nil {
		return err
	}
	files, err := dep.openDir(filesDir)
	if err != nil {
		return broken(err)
	}
	defer files.Close()
	v.inodes = make(map[string]fileID)
	hashes, hashCtx := errgroup.WithContext(ctx)
	hashes.SetLimit(runtime.GOMAXPROCS(0))
	err = v.walk(hashCtx, hashes, files, ".")
	if err := errors.Join(err, hashes.Wait()); err != nil {
		return err
	}
	for p := range v.expected {
		v.report(p, "missing")
	}
	for _, group := range record.Links {
		v.links(group)
	}
	return nil
}

func (v *verification) load(dep dir) error {
	v.expected = make(map[string]manifest.Entry)
	for e, err := range manifestEntries(dep) {
		if err != nil {
			return err
		}
		v.expected[e.Path] = e
	}
	return nil
}

func (v *verification) report(p, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found = append(v.found, Difference{Path: p, What: fmt.Sprintf(format, args...)})
}

func (v *verification) unread(p string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found = append(v.found, Difference{p, fmt.Sprintf("cannot be read: %v", errnoOf(err)), errors.Is(err, os.ErrPermission)})
}

// walk compares a directory and everything below it, and takes what it has
// found off the list of what is expected.
func (v *verification) walk(ctx context.Context, hashes *errgroup.Group, d dir, rel string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if rel == "." {
		st, err := fstat(d.File)
		if err != nil {
			return err
		}
		v.compare(".", &st, "")
	}
	list, err := d.entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := v.member(ctx, hashes, d, e, path.Join(rel, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) member(ctx context.Context, hashes *errgroup.Group, d dir, e fs.DirEntry, rel string) error {
	st, err := d.lstat(e.Name())
	if err != nil {
		return err
	}
	var target string
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if target, err = d.readlink(e.Name()); err != nil {
			return err
		}
	}
	same, expected := v.compare(rel, &st, target)
	switch {
	case isDir(&st):
		sub, err := d.openSameMount(e.Name())
		if err != nil {
			v.unread(rel, err)
			// Nobody knows what is in it.
			maps.DeleteFunc(v.expected, func(p string, _ manifest.Entry) bool { return strings.HasPrefix(p, rel+"/") })
			return nil
		}
		defer sub.Close()
		return v.walk(ctx, hashes, sub, rel)
	case isRegular(&st):
		v.inodes[rel] = idOf(&st)
		if !same {
			return nil
		}
		f, err := d.openFile(e.Name(), unix.O_RDONLY)
		if err != nil {
			v.unread(rel, err)
			return nil
		}
		hashes.Go(func() error { return v.content(ctx, f, rel, expected) })
	}
	return nil
}

// compare reports what the inode says. same is false if the content need not
// be read to know that it differs, or if it is not expected at all.
func (v *verification) compare(rel string, st *unix.Stat_t, target string) (same bool, e manifest.Entry) {
	e, ok := v.expected[rel]
	if !ok {
		v.report(rel, "extra")
		return false, e
	}
	delete(v.expected, rel)
	typ, known := typeOf(st)
	if !known || typ != e.Type {
		v.report(rel, "changed: type is not %s", e.Type)
		return false, e
	}
	same = true
	if typ != manifest.Link && st.Mode&0o7777 != e.Mode {
		v.report(rel, "changed: mode is %04o, not %04o", st.Mode&0o7777, e.Mode)
	}
	if typ == manifest.File && st.Size != e.Size {
		v.report(rel, "changed: size is %d, not %d", st.Size, e.Size)
		same = false
	}
	if !modTime(st).Equal(e.Time) {
		v.report(rel, "changed: time is %s, not %s", timeText(modTime(st)), timeText(e.Time))
	}
	if typ == manifest.Link && target != e.Link {
		v.report(rel, "changed: target is %q, not %q", target, e.Link)
	}
	return same, e
}

func (v *verification) content(ctx context.Context, f *os.File, rel string, e manifest.Entry) error {
	defer f.Close()
	hash := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		if v.read != nil {
			v.read(int64(n))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			v.report(rel, "cannot be read: %v", errnoOf(err))
			return nil
		}
	}
	if [sha256.Size]byte(hash.Sum(nil)) != e.Digest {
		v.report(rel, "changed: content")
	}
	return nil
}

// links compares which names are one file, which a manifest cannot say.
func (v *verification) links(group []string) {
	first, ok := v.inodes[group[0]]
	for _, other := range group[1:] {
		id, there := v.inodes[other]
		if ok && there && id != first {
			v.report(other, "changed: no longer a hard link of %q", group[0])
		}
	}
}

func typeOf(st *unix.Stat_t) (typ manifest.Type, known bool) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return manifest.File, true
	case unix.S_IFDIR:
		return manifest.Dir, true
	case unix.S_IFLNK:
		return manifest.Link, true
	}
	return 0, false
}

func timeText(t interface{ UnixNano() int64 }) string {
	return fmt.Sprintf("%d.%09d", t.UnixNano()/1e9, t.UnixNano()%1e9)
}

// errnoOf is the error without the path, which the report has in front.
func errnoOf(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
