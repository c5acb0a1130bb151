package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"berth/store"
)

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
