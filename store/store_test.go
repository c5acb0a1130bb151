package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/gc/occupancy"
	"berth/lock"
	"berth/store"
	"berth/store/archive"
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

func TestInstallPublishesAWholeDeployment(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := newStore(t)
	done, err := s.Install(t.Context(), artifact(t, "demo@1.0"), store.InstallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !done.Activated || done.Already || done.Warning != nil {
		t.Errorf("the first version: %+v", done)
	}
	d, err := s.Lookup(store.Ref{Name: "demo"})
	if err != nil || d.Err != nil {
		t.Fatal(err, d.Err)
	}
	if d.Ref.Version != "1.0" || !d.Current || d.Pinned || d.Deferred || d.Locked != store.No || d.Size != int64(len("tool of demo@1.0")) ||
		d.Installed.IsZero() || d.Activated.IsZero() || !strings.HasPrefix(d.Digest, "sha256:") || !strings.HasSuffix(d.Origin, "a.tar") {
		t.Errorf("described as %+v", d)
	}
	for name, mode := range map[string]os.FileMode{
		".": 0o755, "files": 0o755, "files/.ref": 0o644, "metadata": 0o644,
		"manifest.mtree.gz": 0o644, "deployment.toml": 0o644, "files/bin": 0o555, "activated": 0o644,
	} {
		info, err := os.Lstat(filepath.Join(d.Path(), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	info, _ := os.Lstat(filepath.Join(d.Path(), "files/.ref"))
	if st := info.Sys().(*syscall.Stat_t); info.Size() != 0 || st.Nlink != 1 {
		t.Errorf(".ref: %+v", st)
	}
	for name, mode := range map[string]os.FileMode{"": 0o755, "lock": 0o600, "store.toml": 0o644, "runtimes": 0o755, "trash": 0o755, "staging": 0o755} {
		info, err := os.Lstat(filepath.Join(s.Path(), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("STORE/%s: %v, %v", name, info, err)
		}
	}
	if ref, found, err := s.Verify(t.Context(), store.Ref{Name: "demo"}, nil); err != nil || len(found) > 0 || ref.Version != "1.0" {
		t.Errorf("verify: %v, %v, %v", ref, found, err)
	}
	wantClean(t, s)

	again, err := s.Install(t.Context(), artifact(t, "demo@1.0"), store.InstallOptions{})
	if err != nil || !again.Already {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func TestASecondVersionBecomesCurrentOnlyWhenAsked(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	if d, err := s.Lookup(store.Ref{Name: "demo"}); err != nil || d.Ref.Version != "1.0" {
		t.Errorf("current is %+v, %v", d, err)
	}
	done, err := s.Install(t.Context(), artifact(t, "demo@2.0"), store.InstallOptions{Activate: true})
	if err != nil || !done.Already || !done.Activated {
		t.Errorf("switching to what is installed: %+v, %v", done, err)
	}
	done, err = s.Install(t.Context(), artifact(t, "demo@3.0"), store.InstallOptions{Activate: true, NoSync: true})
	if err != nil || !done.Activated {
		t.Errorf("%+v, %v", done, err)
	}
	if d, err := s.Lookup(store.Ref{Name: "demo"}); err != nil || d.Ref.Version != "3.0" {
		t.Errorf("current is %+v, %v", d, err)
	}
}

func TestInstallOfABadArchivePublishesNothing(t *testing.T) {
	s := newStore(t)
	a := artifact(t, "demo@1.0", tar.Header{Name: "files/../../../escape", Typeflag: tar.TypeReg, Mode: 0o644})
	_, err := s.Install(t.Context(), a, store.InstallOptions{})
	if !errors.Is(err, archive.ErrUnsafe) || !strings.Contains(err.Error(), `"files/../../../escape"`) {
		t.Errorf("got %v", err)
	}
	wantVersions(t, s)
	wantClean(t, s)
	_, err = s.Install(t.Context(), artifact(t, "demo@1.0"), store.InstallOptions{MaxSize: 10})
	if !errors.Is(err, archive.ErrTooBig) {
		t.Errorf("got %v", err)
	}
	wantClean(t, s)
}

func TestInstallObeysTheContext(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	opt := store.InstallOptions{Read: func(int64) { cancel() }}
	if _, err := s.Install(ctx, artifact(t, "demo@1.0"), opt); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantVersions(t, s)
	wantClean(t, s)
}

func TestConcurrentInstallsOfOneVersionDoTheWorkOnce(t *testing.T) {
	s := newStore(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	unpacked := 0
	for range 8 {
		a := artifact(t, "demo@1.0")
		wg.Go(func() {
			done, err := create(t, s.Path()).Install(context.Background(), a, store.InstallOptions{NoSync: true})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if !done.Already {
				unpacked++
			}
		})
	}
	wg.Wait()
	if unpacked != 1 {
		t.Errorf("unpacked %d times", unpacked)
	}
	wantVersions(t, s, "demo@1.0")
	wantClean(t, s)
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

func TestCollectRemovesAndCounts(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	d, err := s.Lookup(parse(t, "demo@2.0"))
	if err != nil {
		t.Fatal(err)
	}
	freed, err := s.Collect(t.Context(), *d, store.CollectOptions{})
	if err != nil || freed < 4096 {
		t.Errorf("freed %d, %v", freed, err)
	}
	wantVersions(t, s, "demo@1.0")
	wantClean(t, s)
	if _, err := s.Collect(t.Context(), *d, store.CollectOptions{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("once more: %v", err)
	}
}

func TestCollectKeepsWhatIsProtected(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	if _, err := s.Pin(t.Context(), parse(t, "demo@2.0")); err != nil {
		t.Fatal(err)
	}
	hold, err := s.Hold(t.Context(), parse(t, "demo@3.0"))
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]error{
		"demo@1.0": store.ErrCurrent, "demo@2.0": store.ErrPinned, "demo@3.0": lock.ErrBusy,
	} {
		for _, opt := range []store.CollectOptions{{}, {Last: true}} {
			if err := collect(t, s, ref, opt); !errors.Is(err, want) {
				t.Errorf("%s: %v", ref, err)
			}
		}
	}
	wantVersions(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	if err := hold.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unpin(t.Context(), parse(t, "demo@2.0")); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"demo@2.0", "demo@3.0"} {
		if err := collect(t, s, ref, store.CollectOptions{}); err != nil {
			t.Error(err)
		}
	}
	if err := collect(t, s, "demo@1.0", store.CollectOptions{Last: true}); err != nil {
		t.Error(err)
	}
	wantVersions(t, s)
	if _, err := os.Lstat(filepath.Join(s.Path(), "runtimes/demo")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime's directory: %v", err)
	}
}

// Whatever cannot be known keeps the deployment, with a reason.
func TestCollectFailsClosed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dep string){
		"no .ref": func(t *testing.T, dep string) { must(t, os.Remove(dep+"/files/.ref")) },
		".ref a directory": func(t *testing.T, dep string) {
			must(t, os.Remove(dep+"/files/.ref"))
			must(t, os.Mkdir(dep+"/files/.ref", 0o755))
		},
		".ref a symlink": func(t *testing.T, dep string) {
			must(t, os.Remove(dep+"/files/.ref"))
			must(t, os.Symlink("/dev/null", dep+"/files/.ref"))
		},
		".ref a fifo": func(t *testing.T, dep string) {
			must(t, os.Remove(dep+"/files/.ref"))
			must(t, unix.Mkfifo(dep+"/files/.ref", 0o644))
		},
		"read-only": func(t *testing.T, dep string) {
			must(t, unix.Mount(dep, dep, "", unix.MS_BIND, ""))
			must(t, unix.Mount("", dep, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
			t.Cleanup(func() { unix.Unmount(dep, unix.MNT_DETACH) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			install(t, s, "demo@1.0", "demo@2.0")
			dep := filepath.Join(s.Path(), "runtimes/demo/2.0")
			spoil(t, dep)
			err := collect(t, s, "demo@2.0", store.CollectOptions{})
			if err == nil {
				t.Error("collected")
			}
			if _, err := os.Lstat(dep + "/files/bin/tool"); err != nil {
				t.Errorf("it was touched: %v", err)
			}
			t.Log(err)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestANestedLockFileKeepsTheTreeInTheTrash(t *testing.T) {
	s := newStore(t)
	nested := []tar.Header{
		{Name: "files/app/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "files/app/.ref", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "files/app/deep/", Typeflag: tar.TypeDir, Mode: 0o000},
		{Name: "files/app/deep/.ref", Typeflag: tar.TypeLink, Linkname: "files/app/.ref"},
	}
	install(t, s, "demo@1.0")
	if _, err := s.Install(t.Context(), artifact(t, "demo@2.0", nested...), store.InstallOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	// Another process, because our own is no evidence.
	cmd := exec.Command("/usr/bin/python3", "-c", `
import fcntl, sys
f = open(sys.argv[1])
fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
print('ready', flush=True)
sys.stdin.read()`, filepath.Join(s.Path(), "runtimes/demo/2.0/files/app/.ref"))
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	err = collect(t, s, "demo@2.0", store.CollectOptions{})
	if !errors.Is(err, lock.ErrBusy) {
		t.Errorf("got %v", err)
	}
	if left := versions(t, s); slices.Contains(left, "demo@2.0") {
		// The first look has seen it: also good.
		in.Close()
		cmd.Wait()
		must(t, collect(t, s, "demo@2.0", store.CollectOptions{}))
		wantClean(t, s)
		return
	}
	in.Close()
	cmd.Wait()
	done, err := s.Drain(t.Context())
	if err != nil || len(done) != 1 || done[0].Err != nil || done[0].Ref != parse(t, "demo@2.0") || done[0].Freed == 0 {
		t.Errorf("drained %+v, %v", done, err)
	}
	wantClean(t, s)
}

func TestWithoutALookerNothingIsDeleted(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	blind, err := store.Open(s.Path(), store.Options{})
	must(t, err)
	defer blind.Close()
	if err := collect(t, blind, "demo@2.0", store.CollectOptions{}); err == nil {
		t.Error("collected")
	}
	wantVersions(t, s, "demo@1.0", "demo@2.0")
}

func TestDrainFinishesWhatWasKilled(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	path := func(name string) string { return filepath.Join(s.Path(), name) }
	// Killed after the rename, and killed after the lock file was deleted.
	must(t, os.Rename(path("runtimes/demo/2.0"), path("trash/demo@2.0.aaaaaaaa")))
	must(t, os.Rename(path("runtimes/demo/3.0"), path("trash/demo@3.0.bbbbbbbb")))
	must(t, os.Remove(path("trash/demo@3.0.bbbbbbbb/files/.ref")))
	// Stages: one with content, one without lock file, one that is alive.
	must(t, os.MkdirAll(path("staging/demo@4.0/tree/files"), 0o755))
	must(t, os.WriteFile(path("staging/demo@4.0/lock"), nil, 0o600))
	must(t, os.Mkdir(path("staging/demo@5.0"), 0o755))
	must(t, os.Mkdir(path("staging/demo@6.0"), 0o755))
	must(t, os.WriteFile(path("staging/demo@6.0/lock"), nil, 0o600))
	alive, err := os.OpenFile(path("staging/demo@6.0/lock"), os.O_RDWR, 0)
	must(t, err)
	defer alive.Close()
	must(t, lock.Try(alive, lock.Write))
	must(t, os.Symlink("1.0", path("staging/current")))

	done, err := s.Drain(t.Context())
	must(t, err)
	for _, r := range done {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Path, r.Err)
		}
	}
	if list, _ := os.ReadDir(path("trash")); len(list) > 0 {
		t.Errorf("the trash has %v", list)
	}
	if list, _ := os.ReadDir(path("staging")); len(list) != 1 || list[0].Name() != "demo@6.0" {
		t.Errorf("the staging directory has %v", list)
	}
	wantVersions(t, s, "demo@1.0")
}

// What is mounted inside a deployment is not the store's to delete.
func TestDeletingStopsAtAMount(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0")
	inside := tar.Header{Name: "files/mnt/", Typeflag: tar.TypeDir, Mode: 0o755}
	if _, err := s.Install(t.Context(), artifact(t, "demo@2.0", inside), store.InstallOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	precious := t.TempDir()
	must(t, os.WriteFile(precious+"/letter", nil, 0o644))
	at := filepath.Join(s.Path(), "runtimes/demo/2.0/files/mnt")
	must(t, unix.Mount(precious, at, "", unix.MS_BIND, ""))
	err := collect(t, s, "demo@2.0", store.CollectOptions{})
	if err == nil {
		t.Error("collected")
	}
	t.Log(err)
	trash, _ := filepath.Glob(s.Path() + "/trash/*/files/mnt")
	for _, p := range append(trash, at) {
		unix.Unmount(p, unix.MNT_DETACH)
	}
	if _, err := os.Stat(precious + "/letter"); err != nil {
		t.Fatal("what was mounted has been deleted")
	}
	if _, err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	wantClean(t, s)
}

func TestRollbackTogglesByActivation(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	for _, v := range []string{"3.0", "2.0"} {
		must(t, s.Switch(t.Context(), store.Ref{Name: "demo", Version: v}))
	}
	for _, want := range []string{"3.0", "2.0", "3.0"} {
		got, err := s.Rollback(t.Context(), "demo")
		if err != nil || got.Version != want {
			t.Errorf("rolled back to %v, %v; want %s", got, err, want)
		}
		if d, _ := s.Lookup(store.Ref{Name: "demo"}); d.Ref.Version != want {
			t.Errorf("current is %s, want %s", d.Ref.Version, want)
		}
	}
	if _, err := s.Rollback(t.Context(), "other"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	install(t, s, "single@1")
	if _, err := s.Rollback(t.Context(), "single"); !errors.Is(err, store.ErrNoPrevious) {
		t.Errorf("got %v", err)
	}
}

func TestDeferredTakesNoReaders(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	must(t, s.Defer(t.Context(), parse(t, "demo@2.0")))
	if _, err := s.Hold(t.Context(), parse(t, "demo@2.0")); !errors.Is(err, store.ErrDeferred) {
		t.Errorf("hold: %v", err)
	}
	if err := s.Switch(t.Context(), parse(t, "demo@2.0")); !errors.Is(err, store.ErrDeferred) {
		t.Errorf("switch: %v", err)
	}
	if err := s.Defer(t.Context(), parse(t, "demo@1.0")); !errors.Is(err, store.ErrCurrent) {
		t.Errorf("defer of the current one: %v", err)
	}
	d, err := s.Lookup(parse(t, "demo@2.0"))
	if err != nil || !d.Deferred || time.Since(d.DeferredAt) > time.Minute {
		t.Errorf("%+v, %v", d, err)
	}
	must(t, collect(t, s, "demo@2.0", store.CollectOptions{}))
}

func TestHoldErrors(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	hold := func(ref string) error {
		h, err := s.Hold(t.Context(), parse(t, ref))
		if err == nil {
			h.Release()
		}
		return err
	}
	for ref, want := range map[string]error{"none": store.ErrNotFound, "demo@3.0": store.ErrNotFound, "none@1": store.ErrNotFound} {
		if err := hold(ref); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	must(t, os.Remove(filepath.Join(s.Path(), "runtimes/demo/current")))
	if err := hold("demo"); !errors.Is(err, store.ErrNoCurrent) {
		t.Errorf("no current: %v", err)
	}
	must(t, os.Symlink("../../etc", filepath.Join(s.Path(), "runtimes/demo/current")))
	if err := hold("demo"); !errors.Is(err, store.ErrBroken) {
		t.Errorf("current leads out: %v", err)
	}
	must(t, os.Symlink("1.0", filepath.Join(s.Path(), "runtimes/demo/9.0")))
	if err := hold("demo@9.0"); err == nil {
		t.Error("a symlink was taken for a version")
	}
	must(t, os.Remove(filepath.Join(s.Path(), "runtimes/demo/2.0/files/.ref")))
	if err := hold("demo@2.0"); !errors.Is(err, store.ErrBroken) {
		t.Errorf("no .ref: %v", err)
	}
	writer, err := os.OpenFile(filepath.Join(s.Path(), "runtimes/demo/1.0/files/.ref"), os.O_RDWR, 0)
	must(t, err)
	defer writer.Close()
	must(t, lock.Try(writer, lock.Write))
	if err := hold("demo@1.0"); !errors.Is(err, lock.ErrBusy) {
		t.Errorf("beside a write lock: %v", err)
	}
}

// A reader between its open and its lock must notice that the deployment went.
func TestTheReadersSecondLook(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, err := s.Hold(context.Background(), store.Ref{Name: "demo", Version: "2.0"})
				if err != nil {
					continue
				}
				if text, err := os.ReadFile(filepath.Join(h.Files(), "bin/tool")); err != nil || string(text) != "tool of demo@2.0" {
					t.Errorf("a held runtime has %q, %v", text, err)
				}
				h.Release()
			}
		})
	}
	for range 30 {
		for {
			err := collect(t, s, "demo@2.0", store.CollectOptions{})
			if err == nil {
				break
			}
			if !errors.Is(err, lock.ErrBusy) && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			if errors.Is(err, store.ErrNotFound) {
				break
			}
		}
		install(t, s, "demo@2.0")
	}
	close(stop)
	wg.Wait()
	_, err := s.Drain(t.Context())
	must(t, err)
	wantClean(t, s)
}

func TestVerifyFindsEveryKindOfDifference(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0")
	files := filepath.Join(s.Path(), "runtimes/demo/1.0/files")
	stamp := time.Unix(1600000000, 0)
	must(t, os.WriteFile(files+"/extra", nil, 0o644))
	must(t, os.Remove(files+"/lib"))
	must(t, os.Symlink("elsewhere", files+"/lib"))
	must(t, os.Remove(files+"/bin/same"))
	must(t, os.WriteFile(files+"/bin/same", []byte("TOOL of demo@1.0"), 0o755))
	must(t, os.Chtimes(files+"/bin/same", stamp, stamp))
	must(t, os.Chmod(files+"/bin/tool", 0o700))
	must(t, os.Remove(files+"/.ref"))
	must(t, os.Mkdir(files+"/.ref", 0o755))
	_, err := store.Open(s.Path(), store.Options{})
	must(t, err)
	if _, _, err := s.Verify(t.Context(), store.Ref{Name: "demo"}, nil); !errors.Is(err, store.ErrBroken) {
		t.Errorf("without a lock file: %v", err)
	}
	must(t, os.Remove(files+"/.ref"))
	must(t, os.WriteFile(files+"/.ref", []byte("x"), 0o644))
	_, found, err := s.Verify(t.Context(), store.Ref{Name: "demo"}, nil)
	must(t, err)
	var got []string
	for _, d := range found {
		got = append(got, fmt.Sprintf("%s %s", d.Path, d.What))
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{
		"extra extra", `lib changed: target is "elsewhere", not "bin"`, "bin/same changed: content",
		`bin/tool changed: no longer a hard link of "bin/same"`, "bin/tool changed: mode is 0700, not 0755", ".ref changed: size is 1, not 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	must(t, os.Remove(files+"/lib"))
	_, found, err = s.Verify(t.Context(), store.Ref{Name: "demo"}, nil)
	if err != nil || !slices.Contains(found, store.Difference{Path: "lib", What: "missing"}) {
		t.Errorf("%v, %v", found, err)
	}
}

func TestListSurvivesBrokenDeployments(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	must(t, os.Remove(filepath.Join(s.Path(), "runtimes/demo/2.0/deployment.toml")))
	must(t, os.WriteFile(filepath.Join(s.Path(), "runtimes/demo/3.0/deployment.toml"), []byte("no toml"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.Path(), "runtimes/demo/note"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(s.Path(), "runtimes/bad name"), 0o755))
	list, err := s.List("")
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	for i, broken := range []bool{false, true, true} {
		if errors.Is(list[i].Err, store.ErrBroken) != broken {
			t.Errorf("%s: %v", list[i].Ref, list[i].Err)
		}
	}
	if _, err := s.List("../demo"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestUsageCountsWhatDeletingFrees(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	one, two := filepath.Join(s.Path(), "runtimes/demo/1.0/files/"), filepath.Join(s.Path(), "runtimes/demo/2.0/files/")
	big := bytes.Repeat([]byte("x"), 1<<20)
	must(t, os.WriteFile(one+"/shared", big, 0o644))
	must(t, os.Link(one+"/shared", two+"/shared"))
	must(t, os.WriteFile(two+"/outside", big, 0o644))
	must(t, os.Link(two+"/outside", filepath.Join(t.TempDir(), "x")))
	list, err := s.List("")
	must(t, err)
	u, err := s.Usage(t.Context(), list)
	must(t, err)
	shared := int64(0)
	for _, e := range u.Extents {
		if len(e.Owners) == 2 {
			shared += e.Bytes
		} else if e.Bytes > 1<<19 {
			t.Errorf("an extent of one owner has %d bytes", e.Bytes)
		}
	}
	if shared < 1<<20 || shared > 1<<20+1<<16 || u.Used < 2<<20 || u.Free <= 0 {
		t.Errorf("%+v", u)
	}
}

func TestForceReplacesInPlace(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	force := store.InstallOptions{Force: true, NoSync: true}
	if _, err := s.Pin(t.Context(), parse(t, "demo@1.0")); err != nil {
		t.Fatal(err)
	}
	before, err := s.Lookup(parse(t, "demo@1.0"))
	must(t, err)
	must(t, os.WriteFile(before.Path()+"/files/bin/tool", []byte("spoilt"), 0o755))

	hold, err := s.Hold(t.Context(), parse(t, "demo@1.0"))
	must(t, err)
	if _, err := s.Install(t.Context(), artifact(t, "demo@1.0"), force); !errors.Is(err, lock.ErrBusy) {
		t.Errorf("beside a reader: %v", err)
	}
	wantClean(t, s)
	must(t, hold.Release())

	done, err := s.Install(t.Context(), artifact(t, "demo@1.0"), force)
	if err != nil || !done.Replaced || done.Already {
		t.Fatalf("%+v, %v", done, err)
	}
	after, err := s.Lookup(parse(t, "demo@1.0"))
	if err != nil || after.Err != nil || !after.Current || !after.Pinned || !after.Activated.Equal(before.Activated) {
		t.Errorf("%+v, %v", after, err)
	}
	if _, found, err := s.Verify(t.Context(), parse(t, "demo@1.0"), nil); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	wantClean(t, s)

	must(t, s.Defer(t.Context(), parse(t, "demo@2.0")))
	force.Activate = true
	if done, err = s.Install(t.Context(), artifact(t, "demo@2.0"), force); err != nil || !done.Activated {
		t.Errorf("%+v, %v", done, err)
	}
	if d, err := s.Lookup(store.Ref{Name: "demo"}); err != nil || d.Ref.Version != "2.0" || d.Deferred {
		t.Errorf("%+v, %v", d, err)
	}
	if done, err = s.Install(t.Context(), artifact(t, "demo@3.0"), force); err != nil || done.Replaced {
		t.Errorf("what was not there: %+v, %v", done, err)
	}
	wantVersions(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	wantClean(t, s)
}

// Killed between the exchange and the move, the old tree lies in the stage. It
// is deleted like one in the trash: not while somebody uses it.
func TestAnExchangedTreeInAStageIsTrash(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	stage := filepath.Join(s.Path(), "staging/demo@2.0")
	must(t, os.Mkdir(stage, 0o755))
	must(t, os.WriteFile(stage+"/lock", nil, 0o600))
	must(t, os.Rename(filepath.Join(s.Path(), "runtimes/demo/2.0"), stage+"/tree"))
	reader, err := os.Open(stage + "/tree/files/.ref")
	must(t, err)
	must(t, lock.Try(reader, lock.Read))
	done, err := s.Drain(t.Context())
	if err != nil || len(done) != 1 || !errors.Is(done[0].Err, lock.ErrBusy) {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := os.Stat(stage + "/tree/files/bin/tool"); err != nil {
		t.Errorf("it was touched: %v", err)
	}
	reader.Close()
	if _, err = s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	wantClean(t, s)
}
