package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fill writes until the file system is full, to the last byte.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for block := make([]byte, size); ; {
			if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	f.Sync()
}

// exhaust makes files until there is no inode left.
func exhaust(t *testing.T, dir string) {
	t.Helper()
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint("inode", i)), nil, 0o644)
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestGCFreesAFullFileSystem(t *testing.T) {
	for name, c := range map[string]struct {
		mkfs []string
		use  func(*testing.T, string)
	}{
		"no free bytes":  {[]string{"mkfs.ext4", "-q", "-F", "-m", "0"}, fill},
		"no free inodes": {[]string{"mkfs.ext4", "-q", "-F", "-m", "0", "-N", "1024"}, exhaust},
	} {
		t.Run(name, func(t *testing.T) {
			at := loop(t, 64, c.mkfs...)
			w := newWorldIn(t, at)
			w.install("1.0", "1.1", "1.2", "2.0")
			// One is left in the trash by somebody who was killed.
			if err := os.Rename(filepath.Dir(w.files("demo@1.2")), filepath.Join(w.store, "trash", "demo@1.2.abcdefgh")); err != nil {
				t.Fatal(err)
			}
			c.use(t, at)
			if err := os.WriteFile(filepath.Join(at, "more"), []byte("x"), 0o644); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the file system is not full: %v", err)
			}
			w.must(0, "gc")
			if w.listed("demo@1.0") || w.listed("demo@1.1") || !w.listed("demo@2.0") {
				t.Errorf("left are:\n%s", w.must(0, "list").stdout)
			}
			w.empty()
			if err := os.WriteFile(filepath.Join(at, "more"), []byte("x"), 0o644); err != nil {
				t.Errorf("it is full still: %v", err)
			}
		})
	}
}

// An install that does not fit leaves nothing, and says what is wrong.
func TestInstallOnAFullFileSystem(t *testing.T) {
	at := loop(t, 64, "mkfs.ext4", "-q", "-F", "-m", "0")
	w := newWorldIn(t, at)
	w.install("1.0")
	archive := w.smallArchive("2.0")
	fill(t, at)
	r := w.must(74, "install", archive)
	if !strings.Contains(r.stderr, "no space left on device") {
		t.Errorf("it says: %s", r.stderr)
	}
	w.empty()
	w.must(0, "verify", "demo")
	if w.listed("demo@2.0") {
		t.Error("it is listed")
	}
}

// The room that an install needs can be in the trash, which is emptied while it
// unpacks.
func TestInstallInTheRoomOfTheTrash(t *testing.T) {
	at := loop(t, 64, "mkfs.ext4", "-q", "-F", "-m", "0")
	w := newWorldIn(t, at)
	w.write("config.toml", "[store]\ndedup = false\n") // 2.0 needs as much as 1.0 has
	w.install("1.0", "1.1")
	archive := w.smallArchive("2.0")
	left := filepath.Join(w.store, "trash", "demo@1.0.abcdefgh")
	if err := os.Rename(filepath.Dir(w.files("demo@1.0")), left); err != nil {
		t.Fatal(err)
	}
	fill(t, at)
	// A stage is a little more than what was in the trash.
	full, err := os.Stat(filepath.Join(at, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(at, "fill"), full.Size()-64<<10); err != nil {
		t.Fatal(err)
	}
	w.must(0, "install", archive, "--switch")
	w.empty()
	w.must(0, "verify", "demo@2.0")
}

// It is tried once more only if there is more room by then, and the archive can
// be read once more.
func TestOnceMoreOnAFullFileSystem(t *testing.T) {
	for _, c := range []struct {
		trash, pipe, again bool
	}{{true, false, true}, {false, false, false}, {true, true, false}} {
		w := newWorld(t)
		w.install("1.0", "1.1")
		if c.trash {
			if err := os.Rename(filepath.Dir(w.files("demo@1.0")), filepath.Join(w.store, "trash", "demo@1.0.abcdefgh")); err != nil {
				t.Fatal(err)
			}
		}
		archive := w.smallArchive("2.0")
		from := archive
		if c.pipe {
			from = "/dev/stdin"
		}
		cmd := w.command("-f", "-qq", "-o", w.path("trace"), "-e", "trace=syncfs", "-e", "inject=syncfs:error=ENOSPC",
			binary, "install", from, "--as", "demo@2.0")
		cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
		if c.pipe {
			cat := exec.Command("cat", archive)
			var err error
			if cmd.Stdin, err = cat.StdoutPipe(); err != nil {
				t.Fatal(err)
			}
			if err := cat.Start(); err != nil {
				t.Fatal(err)
			}
			defer cat.Wait()
		}
		r := w.finish(cmd)
		if r.status != 74 || strings.Contains(r.stderr, "once more") != c.again {
			t.Errorf("%+v: exit status %d\n%s", c, r.status, r.stderr)
		}
		w.empty()
	}
}
