package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loop makes a file system in a file and mounts it.
func loop(t *testing.T, mib int, mkfs ...string) string {
	t.Helper()
	dir := openDir(t, 0)
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, int64(mib)<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", mkfs, err, out)
	}
	mount(t, at, "-o", "loop", image)
	return at
}

func mount(t *testing.T, at string, args ...string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
		t.Fatalf("mount %q: %v\n%s", args, err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "--lazy", at).Run() })
	if err := os.Chmod(at, 0o755); err != nil {
		t.Fatal(err)
	}
}

// places are file systems of every kind that a store may be on.
var places = map[string]func(t *testing.T) string{
	"ext4": func(t *testing.T) string { return loop(t, 64, "mkfs.ext4", "-q", "-F") },
	// Whose listings do not tell a directory from a file.
	"ext4 without file types": func(t *testing.T) string { return loop(t, 64, "mkfs.ext4", "-q", "-F", "-O", "^filetype") },
	"ext4 with whole seconds": func(t *testing.T) string { return loop(t, 64, "mkfs.ext4", "-q", "-F", "-I", "128") },
	"xfs":                     func(t *testing.T) string { return loop(t, 320, "mkfs.xfs", "-q", "-f") },
	"btrfs":                   func(t *testing.T) string { return loop(t, 128, "mkfs.btrfs", "-q", "-f") },
	"btrfs subvolume": func(t *testing.T) string {
		top := loop(t, 128, "mkfs.btrfs", "-q", "-f")
		sub := filepath.Join(top, "sub")
		if out, err := exec.Command("btrfs", "subvolume", "create", sub).CombinedOutput(); err != nil {
			t.Fatalf("btrfs: %v\n%s", err, out)
		}
		return sub
	},
	"tmpfs": func(t *testing.T) string {
		at := filepath.Join(openDir(t, 0), "at")
		mount(t, at, "-t", "tmpfs", "tmpfs")
		return at
	},
	"overlay": func(t *testing.T) string {
		dir := openDir(t, 0)
		mount(t, filepath.Join(dir, "base"), "-t", "tmpfs", "tmpfs")
		for _, d := range []string{"lower", "upper", "work"} {
			if err := os.Mkdir(filepath.Join(dir, "base", d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		at := filepath.Join(dir, "at")
		mount(t, at, "-t", "overlay", "overlay", "-o",
			fmt.Sprintf("lowerdir=%[1]s/base/lower,upperdir=%[1]s/base/upper,workdir=%[1]s/base/work", dir))
		return at
	},
}

// The locks and the evidence are the same on every file system.
func TestEveryUseDefersOnEveryFileSystem(t *testing.T) {
	for name, make := range places {
		t.Run(name, func(t *testing.T) {
			at := make(t)
			n := 0
			everyUse(t, func(t *testing.T) string {
				n++
				dir := filepath.Join(at, fmt.Sprint(n))
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				return dir
			})
		})
	}
}

// What has been installed is as it was installed, and is shared, however the
// file system keeps times.
func TestInstallIsVerifiedOnEveryFileSystem(t *testing.T) {
	for name, make := range places {
		t.Run(name, func(t *testing.T) {
			w := newWorldIn(t, make(t))
			tree := newWorld(t).smallTree("1.0") // with times of now, to the nanosecond
			w.must(0, "install", tree, "--as", "demo@1.0")
			w.must(0, "verify", "demo@1.0")
			if r := w.must(0, "install", tree, "--as", "demo@2.0"); strings.Contains(r.stderr, "not reused") {
				t.Errorf("it says %s", r.stderr)
			}
			w.must(0, "verify", "demo@2.0")
		})
	}
}

// What a failed attempt to repair from installed files has left is out of the
// way of the archive: btrfs shows a directory's descriptor only the names that
// were there when it was opened.
func TestRepairFromTheOriginOnEveryFileSystem(t *testing.T) {
	for name, make := range places {
		t.Run(name, func(t *testing.T) {
			w := newWorldIn(t, make(t))
			w.install("1.0")
			if err := os.Remove(filepath.Join(w.files("demo@1.0"), "version")); err != nil {
				t.Fatal(err)
			}
			w.must(0, "repair", "demo@1.0")
			w.must(0, "verify", "demo@1.0")
			w.empty()
		})
	}
}
