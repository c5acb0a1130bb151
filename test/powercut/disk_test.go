package powercut

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A shelf is a file system that shares blocks between files, for the disks.
type shelf struct {
	dir string
	n   atomic.Int64 // of the last copy
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth-powercut-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "shelf")
	makeImage(t, image, 16<<10, "mkfs.xfs", "-q", "-f", "-m", "reflink=1")
	mount(t, image, at, "loop")
	t.Cleanup(func() { unmount(t, at) })
	return &shelf{dir: at}
}

func makeImage(t *testing.T, image string, mib int64, mkfs ...string) {
	t.Helper()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, mib<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
		t.Fatalf("needs %s: %v\n%s", mkfs[0], err, out)
	}
}

func mount(t *testing.T, image, at, options string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", options, image, at).CombinedOutput(); err != nil {
		t.Fatalf("mount -o %s %s: %v\n%s", options, image, err, out)
	}
}

// unmount unmounts what is mounted at a path, if anything is. The kernel lets a
// loop device go a moment after its file system.
func unmount(t *testing.T, at string) {
	t.Helper()
	err := unix.Unmount(at, 0)
	for deadline := time.Now().Add(5 * time.Second); err == unix.EBUSY && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		err = unix.Unmount(at, 0)
	}
	if err == unix.EINVAL || err == unix.ENOENT {
		return
	}
	if err != nil {
		t.Errorf("unmount %s: %v", at, err)
		_ = unix.Unmount(at, unix.MNT_DETACH)
	}
}

// A kind of file system that a store may be on.
type kind struct {
	name    string
	mib     int64
	mkfs    []string
	options string // for mounting a disk whose power was cut
}

var kinds = []kind{
	{"ext4", 96, []string{"mkfs.ext4", "-q", "-F"}, "loop"},
	// The log is replayed also where another disk of the same identity is
	// mounted.
	{"xfs", 320, []string{"mkfs.xfs", "-q", "-f"}, "loop,nouuid"},
	{"btrfs", 256, []string{"mkfs.btrfs", "-q", "-f"}, "loop"},
}

// A disk has one file system, and is mounted at one place.
type disk struct {
	kind
	shelf *shelf
	image string
	at    string
}

func (s *shelf) newDisk(t *testing.T, k kind) *disk {
	t.Helper()
	d := &disk{kind: k, shelf: s, image: filepath.Join(s.dir, k.name), at: filepath.Join(s.dir, k.name+".at")}
	makeImage(t, d.image, k.mib, k.mkfs...)
	t.Cleanup(func() { unmount(t, d.at) })
	return d
}

// copy copies the disk as it is at this instant.
func (d *disk) copy(t *testing.T) string {
	t.Helper()
	name := filepath.Join(d.shelf.dir, fmt.Sprintf("%s.%d", d.name, d.shelf.n.Add(1)))
	from, err := os.Open(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		t.Fatalf("needs a file system that clones files: %v", err)
	}
	return name
}

// insert mounts an image at the disk's place, where nothing may be mounted.
func (d *disk) insert(t *testing.T, image string) {
	t.Helper()
	if d.name == "btrfs" {
		// The kernel remembers a disk by its identity, which the copies
		// share. It has nothing to forget before the first.
		_ = exec.Command("btrfs", "device", "scan", "--forget").Run()
	}
	mount(t, image, d.at, d.options)
}

func (d *disk) eject(t *testing.T) {
	t.Helper()
	unmount(t, d.at)
}
