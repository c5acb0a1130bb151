package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/lock"
)

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

// What somebody has put into the trash stands in the way of no look.
func TestWhatIsNoTreeInTheTrashIsLeftOut(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1")
	trash := filepath.Join(s.Path(), "trash")
	must(t, os.WriteFile(filepath.Join(trash, ".directory"), nil, 0o644))
	must(t, os.Symlink("/etc", filepath.Join(trash, "link")))
	must(t, unix.Mkfifo(filepath.Join(trash, "fifo"), 0o644))
	if found, _, err := s.Trash(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("in the trash: %v (%v)", found, err)
	}
	findings, err := s.Examine(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, f := range findings {
		if f.Bad && strings.Contains(f.What, trash) {
			named++
		}
	}
	if named != 3 {
		t.Errorf("named are %d of 3 in %v", named, findings)
	}
}

// What cannot be removed from the trash must not close it, and with it the
// store, to all other accounts.
func TestADrainLeavesTheModeOfTheTrash(t *testing.T) {
	s := newStore(t)
	at := filepath.Join(s.Path(), "trash", "demo@1.abcdefgh")
	must(t, os.Mkdir(at, 0o755))
	f, err := os.Open(at)
	must(t, err)
	defer f.Close()
	fd := int(f.Fd())
	const immutable = 0x10 // FS_IMMUTABLE_FL
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	must(t, err)
	must(t, unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags|immutable))
	defer unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags)
	if left, err := s.Drain(t.Context()); err != nil || len(left) != 1 || left[0].Err == nil {
		t.Errorf("drained: %v (%v)", left, err)
	}
	info, err := os.Stat(filepath.Dir(at))
	must(t, err)
	if mode := info.Mode().Perm(); mode != 0o755 {
		t.Errorf("the mode of the trash is %04o, not 0755", mode)
	}
}
