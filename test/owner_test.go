package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The owner of a tree has no rights by its modes that root has anyway. He must
// be able to remove it all the same, and looking must not change the modes.
func TestAnAccountRemovesWhatItMayNotRead(t *testing.T) {
	w := newWorld(t)
	const account = 65534
	own := func(args ...string) result {
		t.Helper()
		cmd := w.command(append([]string{"--config", w.path("config.toml")}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: account, Gid: account}}
		return w.finish(cmd)
	}
	for at := w.dir; at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(w.dir, account, account); err != nil {
		t.Fatal(err)
	}
	for i, mode := range []os.FileMode{0, 0o111, 0o300, 0o400, 0o444, 0o555, 0o600} {
		version := fmt.Sprint(i + 1)
		tree := filepath.Join(w.smallTree(version), "files")
		odd := filepath.Join(tree, "odd")
		if err := os.MkdirAll(filepath.Join(odd, "app"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(odd, "app", ".ref"), nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(odd, mode); err != nil {
			t.Fatal(err)
		}
		archive := w.path("odd-" + version + ".tar")
		tar(t, "-cf", archive, "-C", filepath.Dir(tree), "files")
		if r := own("install", archive); r.status != 0 {
			t.Fatalf("mode %04o: install: %d\n%s", mode, r.status, r.stderr)
		}
		in := filepath.Join(w.store, "runtimes", "odd", version, "files", "odd")
		before := changed(t, in)
		if r := own("gc", "--dry-run"); r.status != 0 {
			t.Errorf("mode %04o: gc --dry-run: %d\n%s", mode, r.status, r.stderr)
		}
		if after := changed(t, in); after != before {
			t.Errorf("mode %04o: gc --dry-run changed the directory", mode)
		}
		if r := own("remove", "odd", "--all"); r.status != 0 {
			t.Errorf("mode %04o: remove: %d\n%s", mode, r.status, r.stderr)
		}
	}
	if left, err := os.ReadDir(filepath.Join(w.store, "trash")); err != nil || len(left) > 0 {
		t.Errorf("left in the trash: %v (%v)", left, err)
	}
}

// changed is when the inode last did.
func changed(t *testing.T, path string) syscall.Timespec {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ctim
}

// More versions than the process may have descriptors.
func TestFewDescriptorsAreEnough(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	demo := filepath.Join(w.store, "runtimes/demo")
	const more = 300
	for i := range more {
		if err := os.CopyFS(filepath.Join(demo, fmt.Sprint(i+2)), os.DirFS(filepath.Join(demo, "1"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, verb := range []string{"ps", "gc"} {
		cmd := w.command("-c", "ulimit -n 256; exec "+binary+" --config "+w.path("config.toml")+" "+verb)
		cmd.Path, cmd.Args[0] = "/bin/sh", "sh"
		r := w.finish(cmd)
		if r.status != 0 {
			t.Errorf("%s: exit status %d\n%s", verb, r.status, r.stderr)
		}
		if n := strings.Count(r.stdout, "removed"); verb == "gc" && n != more {
			t.Errorf("gc removed %d, want %d", n, more)
		}
	}
}
