package store_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"berth/lock"
	"berth/store"
)

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
	var shared, elsewhere int64
	for _, e := range u.Extents {
		switch {
		case e.Elsewhere:
			elsewhere += e.Bytes
		case len(e.Owners) == 2:
			shared += e.Bytes
		case e.Bytes > 1<<19:
			t.Errorf("an extent of one owner has %d bytes", e.Bytes)
		}
	}
	if shared < 1<<20 || shared > 1<<20+1<<16 || elsewhere != 1<<20 || u.Used < 2<<20 || u.Free <= 0 {
		t.Errorf("%+v", u)
	}
}

// A runtime's directory on a file system of its own, from which nothing can be
// renamed to the trash.
func TestWhatCannotBeRemovedStaysCurrent(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1")
	at := filepath.Join(s.Path(), "runtimes/demo")
	moved := filepath.Join(t.TempDir(), "moved")
	must(t, os.Rename(at, moved))
	must(t, os.Mkdir(at, 0o755))
	must(t, unix.Mount("none", at, "tmpfs", 0, "mode=0755"))
	defer unix.Unmount(at, unix.MNT_DETACH)
	must(t, os.CopyFS(filepath.Join(at, "1"), os.DirFS(filepath.Join(moved, "1"))))
	must(t, os.Symlink("1", filepath.Join(at, "current")))
	if err := collect(t, s, "demo@1", store.CollectOptions{Last: true}); err == nil {
		t.Fatal("nothing can be renamed between two file systems")
	}
	h, err := s.Hold(t.Context(), parse(t, "demo"))
	if err != nil {
		t.Fatalf("it is not current any more: %v", err)
	}
	h.Release()
}

// A process that has the deployment's own directory open, which alone keeps
// nothing, and a file of it as well.
func TestAFileOpenBesideTheTreesDirectoryIsAUse(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1", "demo@2")
	must(t, s.Switch(t.Context(), parse(t, "demo@2")))
	tree := filepath.Join(s.Path(), "runtimes/demo/1")
	child := exec.Command("sleep", "60")
	for _, p := range []string{tree, filepath.Join(tree, "files/bin/tool")} {
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		child.ExtraFiles = append(child.ExtraFiles, f)
	}
	must(t, child.Start())
	defer child.Wait()
	defer child.Process.Kill()
	if err := collect(t, s, "demo@1", store.CollectOptions{}); err == nil {
		t.Error("what a process has open was deleted")
	}
	wantVersions(t, s, "demo@1", "demo@2")
}

// A mount on a file does not show in the directory, and stops a deletion half
// way.
func TestATreeWithAMountStaysListedAndWhole(t *testing.T) {
	s := create(t, filepath.Join(t.TempDir(), "the store"))
	install(t, s, "demo@1", "demo@2")
	must(t, s.Switch(t.Context(), parse(t, "demo@2")))
	precious := filepath.Join(t.TempDir(), "letter")
	must(t, os.WriteFile(precious, nil, 0o644))
	at := filepath.Join(s.Path(), "runtimes/demo/1/files/bin/tool")
	must(t, unix.Mount(precious, at, "", unix.MS_BIND, ""))
	err := collect(t, s, "demo@1", store.CollectOptions{})
	trash, _ := filepath.Glob(s.Path() + "/trash/*/files/bin/tool")
	for _, p := range append(trash, at) {
		unix.Unmount(p, unix.MNT_DETACH)
	}
	if err == nil {
		t.Error("collected")
	}
	wantVersions(t, s, "demo@1", "demo@2")
	if _, found, err := s.Verify(t.Context(), parse(t, "demo@1"), nil); err != nil || len(found) > 0 {
		t.Errorf("not whole: %v (%v)", found, err)
	}
}

// A plan is out of date when the version has been current since.
func TestWhatWasCurrentMeanwhileIsNotCollected(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1", "demo@2")
	must(t, s.Switch(t.Context(), parse(t, "demo@2")))
	d, err := s.Lookup(parse(t, "demo@1"))
	must(t, err)
	must(t, s.Switch(t.Context(), parse(t, "demo@1")))
	must(t, s.Switch(t.Context(), parse(t, "demo@2")))
	if _, err := s.Collect(t.Context(), *d, store.CollectOptions{}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("%v, want ErrChanged", err)
	}
}
