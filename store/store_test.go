package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/gc/occupancy"
	"berth/lock"
	"berth/store"
	"berth/store/source"
)

func newStore(t *testing.T) *store.Store {
	t.Helper()
	return create(t, filepath.Join(t.TempDir(), "store"))
}

func create(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Create(t.Context(), path, store.Options{Looker: occupancy.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// artifact packs a small tree whose content names the version.
func artifact(t *testing.T, ref string, extra ...tar.Header) source.Artifact {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, content string) {
		h.Size = int64(len(content))
		h.ModTime = time.Unix(1600000000, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "files/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "files/bin/", Typeflag: tar.TypeDir, Mode: 0o555}, "")
	add(tar.Header{Name: "files/bin/tool", Typeflag: tar.TypeReg, Mode: 0o755}, "tool of "+ref)
	add(tar.Header{Name: "files/bin/same", Typeflag: tar.TypeLink, Linkname: "files/bin/tool"}, "")
	add(tar.Header{Name: "files/lib", Typeflag: tar.TypeSymlink, Linkname: "bin"}, "")
	for _, h := range extra {
		add(h, "")
	}
	add(tar.Header{Name: "metadata", Typeflag: tar.TypeReg, Mode: 0o644}, "[Runtime]\nname=demo\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := source.File(path)
	if err != nil {
		t.Fatal(err)
	}
	r := parse(t, ref)
	a.Name, a.Version = r.Name, r.Version
	return a
}

func parse(t *testing.T, ref string) store.Ref {
	t.Helper()
	r, err := store.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func install(t *testing.T, s *store.Store, refs ...string) {
	t.Helper()
	for _, ref := range refs {
		if _, err := s.Install(t.Context(), artifact(t, ref), store.InstallOptions{NoSync: true}); err != nil {
			t.Fatal(err)
		}
	}
}

func collect(t *testing.T, s *store.Store, ref string, opt store.CollectOptions) error {
	t.Helper()
	d, err := s.Lookup(parse(t, ref))
	if err != nil {
		return err
	}
	_, err = s.Collect(t.Context(), *d, opt)
	return err
}

func versions(t *testing.T, s *store.Store) (list []string) {
	t.Helper()
	all, err := s.List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Err != nil {
			t.Errorf("%s: %v", d.Ref, d.Err)
		}
		list = append(list, d.Ref.String())
	}
	return list
}

func wantVersions(t *testing.T, s *store.Store, want ...string) {
	t.Helper()
	if got := versions(t, s); !slices.Equal(got, want) {
		t.Errorf("listed are %q, want %q", got, want)
	}
}

// wantClean fails if something is left in the staging directory or the trash.
func wantClean(t *testing.T, s *store.Store) {
	t.Helper()
	for _, dir := range []string{"staging", "trash"} {
		list, err := os.ReadDir(filepath.Join(s.Path(), dir))
		if err != nil || len(list) > 0 {
			t.Errorf("%s: %v, %v", dir, list, err)
		}
	}
}

func TestCreateMayRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "store")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := store.Create(context.Background(), path, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}

func TestOpenRefusesWhatIsNoStore(t *testing.T) {
	dir := t.TempDir()
	if _, err := store.Open(filepath.Join(dir, "none"), store.Options{}); !errors.Is(err, store.ErrNoStore) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "letter")} {
		if _, err := store.Create(t.Context(), path, store.Options{}); !errors.Is(err, store.ErrForeign) {
			t.Errorf("%s: %v", path, err)
		}
	}
	s := newStore(t)
	if err := os.WriteFile(filepath.Join(s.Path(), "store.toml"), []byte("format = 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(s.Path(), store.Options{}); !errors.Is(err, store.ErrForeign) || !strings.Contains(err.Error(), "format is 2") {
		t.Errorf("another format: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Who waited for a lock file that somebody has deleted meanwhile has to wait
// for the one that is there now.
func TestTheStoreLockIsLookedAtAgain(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1", "demo@2")
	name := filepath.Join(s.Path(), "lock")
	hold := func() *os.File {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		must(t, lock.Try(f, lock.Write))
		return f
	}
	old := hold()
	done := make(chan error, 1)
	go func() { done <- s.Switch(t.Context(), parse(t, "demo@2")) }()
	time.Sleep(200 * time.Millisecond) // it waits
	must(t, os.Remove(name))
	current := hold()
	old.Close()
	select {
	case err := <-done:
		t.Fatalf("switched beside the holder of the new lock: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	current.Close()
	must(t, <-done)
}

func TestALinkToNothing(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0")
	link := filepath.Join(s.Path(), "runtimes/demo/current")
	must(t, os.Remove(link))
	must(t, os.Symlink("9.0", link))
	if _, err := s.Lookup(parse(t, "demo")); !errors.Is(err, store.ErrNoCurrent) {
		t.Errorf("%v, want ErrNoCurrent", err)
	}
	if _, err := s.Lookup(parse(t, "demo@9.0")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
	if _, err := s.Hold(t.Context(), parse(t, "demo")); !errors.Is(err, store.ErrNoCurrent) {
		t.Errorf("hold: %v, want ErrNoCurrent", err)
	}
}
