package store

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Another account can write to a directory of a tree whose mode permits it. The
// owner, who widens the mode of what he may not read there before he deletes
// it, must not be led to a file of his own elsewhere.
func TestWideningFollowsNoSymlink(t *testing.T) {
	top := t.TempDir()
	for at := top; at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tree, victim := filepath.Join(top, "tree"), filepath.Join(top, "victim")
	for _, name := range []string{tree, victim} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(victim, 0o500); err != nil {
		t.Fatal(err)
	}
	const account = 65534
	for _, name := range []string{tree, victim} {
		if err := os.Chown(name, account, account); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(tree, "at")
	var stop atomic.Bool
	swapped := make(chan error, 1)
	go func() { swapped <- swap(at, victim, &stop) }()

	// Only who is not root is refused, and comes to widen: this thread is the
	// account for a while, as far as files go.
	runtime.LockOSThread()
	become := func(uid uintptr) { syscall.RawSyscall(unix.SYS_SETFSUID, uid, 0, 0) }
	become(account)
	defer become(0)
	d, err := openDirPath(tree)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	widened := 0
	for range 50_000 {
		if sub, err := d.openOwnDir("at"); err == nil {
			sub.Close()
			widened++
		}
		if f, err := d.openOwnFile("at", unix.O_RDWR); err == nil {
			f.Close()
		}
	}
	become(0)
	stop.Store(true)
	if err := <-swapped; err != nil {
		t.Fatal(err)
	}
	if widened == 0 {
		t.Error("no mode was widened: it needs root, and tries nothing")
	}
	st, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o500 {
		t.Errorf("the mode of what is outside is %v", st.Mode())
	}
}

// swap makes a path a directory that its owner may not read, and a symlink, in
// turn. A thread other than the test's is root still.
func swap(at, victim string, stop *atomic.Bool) error {
	const account = 65534
	dir := at + ".dir"
	link := at + ".link"
	if err := os.Mkdir(dir, 0); err != nil {
		return err
	}
	if err := os.Chown(dir, account, account); err != nil {
		return err
	}
	if err := os.Symlink(victim, link); err != nil {
		return err
	}
	if err := os.Rename(dir, at); err != nil {
		return err
	}
	for !stop.Load() {
		if err := unix.Renameat2(unix.AT_FDCWD, at, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		for _, name := range []string{at, link} {
			if st, err := os.Lstat(name); err == nil && st.IsDir() {
				if err := os.Chmod(name, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
