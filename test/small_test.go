package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// packed is how old what all versions share is.
var packed = time.Unix(1_600_000_000, 0)

// smallTree makes a runtime of a few files that needs nothing of the host: a
// static busybox is its only program.
func (w *world) smallTree(version string) string {
	w.t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		w.t.Fatalf("needs busybox: %v", err)
	}
	root := w.path("trees", version)
	bin := filepath.Join(root, "files", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		w.t.Fatal(err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), program, 0o755); err != nil {
		w.t.Fatal(err)
	}
	// The same in all versions: a file of another time is not shared.
	if err := os.Chtimes(filepath.Join(bin, "busybox"), packed, packed); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "sleep", "true", "false", "kill", "ls", "setsid", "pwd", "id", "readlink", "touch"} {
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil && !os.IsExist(err) {
			w.t.Fatal(err)
		}
	}
	w.write("trees/"+version+"/files/version", version+"\n")
	for i := range 20 {
		w.write(fmt.Sprintf("trees/%s/files/lib/part%02d", version, i), fmt.Sprintf("part %d of %s\n", i, version))
	}
	w.write("trees/"+version+"/metadata", "[Runtime]\nname=demo\nx-flatdeb-build-id="+version+"\n")
	return root
}

// smallArchive packs a small tree as demo-VERSION.tar.zst.
func (w *world) smallArchive(version string) string {
	w.t.Helper()
	archive := w.path("demo-" + version + ".tar.zst")
	tar(w.t, "--zstd", "-cf", archive, "-C", w.smallTree(version), "files", "metadata")
	return archive
}

func tar(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
		t.Fatalf("tar %q: %v\n%s", args, err, out)
	}
}

// install installs small versions, the last of which is current.
func (w *world) install(versions ...string) {
	w.t.Helper()
	for _, v := range versions {
		w.must(0, "install", w.smallArchive(v), "--switch")
	}
}
