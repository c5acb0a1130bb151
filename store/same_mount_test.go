package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Where openat2 is not to be had, a directory of the same file system that is
// bind-mounted in a tree is somebody else's all the same.
func TestABindMountIsNotEnteredWithoutOpenat2(t *testing.T) {
	top := t.TempDir()
	for _, name := range []string{"tree/mnt", "tree/own", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(top, "tree/mnt")
	if err := unix.Mount(filepath.Join(top, "elsewhere"), at, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("needs the right to mount: %v", err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	tree, err := openDirPath(filepath.Join(top, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if sub, err := tree.openSameDevice("mnt"); !errors.Is(err, unix.EXDEV) {
		t.Errorf("a mount point opened: %v, want EXDEV", err)
		sub.Close()
	}
	if sub, err := tree.openSameDevice("own"); err != nil {
		t.Error(err)
	} else {
		sub.Close()
	}
}
