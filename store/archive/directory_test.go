package archive

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCopyDrops(t *testing.T) {
	src := scratch(t).Name()
	p := func(name string) string { return filepath.Join(src, name) }
	check(t, os.WriteFile(p("suid"), []byte("x"), 0o755))
	check(t, unix.Chmod(p("suid"), 0o4755))
	check(t, os.Mkdir(p("sgid"), 0o755))
	check(t, unix.Chmod(p("sgid"), 0o2755))
	check(t, unix.Mkfifo(p("fifo"), 0o644))
	check(t, unix.Mknod(p("chr"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
	check(t, unix.Mknod(p("blk"), unix.S_IFBLK|0o644, int(unix.Mkdev(7, 0))))
	check(t, unix.Mknod(p("sock"), unix.S_IFSOCK|0o644, 0))
	check(t, os.WriteFile(p("attr"), []byte("x"), 0o644))
	check(t, unix.Setxattr(p("attr"), "user.kept", []byte("v\x00w"), 0))
	check(t, unix.Setxattr(p("attr"), "trusted.lost", []byte("v"), 0))
	check(t, unix.Setxattr(p("sgid"), "user.kept", []byte("d"), 0))

	d := scratch(t)
	tree, err := Copy(t.Context(), src, d, Options{LockFile: ".ref"})
	check(t, err)
	if want := (Dropped{SetID: 2, Xattrs: 1, Nodes: 4}); tree.Dropped != want {
		t.Errorf("%+v, want %+v", tree.Dropped, want)
	}
	files := filepath.Join(d.Name(), "files")
	agree(t, tree, files)
	got := snapshot(t, files)
	if !strings.HasSuffix(got["attr"], ` user.kept="v\x00w"`) || !strings.HasSuffix(got["sgid"], ` user.kept="d"`) {
		t.Errorf("%q, %q", got["attr"], got["sgid"])
	}
}

func TestCopyShapes(t *testing.T) {
	src := scratch(t).Name()
	check(t, os.MkdirAll(filepath.Join(src, "files", "bin"), 0o755))
	check(t, os.WriteFile(filepath.Join(src, "files", ".ref"), []byte("held"), 0o600))
	check(t, os.WriteFile(filepath.Join(src, "metadata"), []byte("[Runtime]\n"), 0o600))
	check(t, os.WriteFile(filepath.Join(src, "deployment.toml"), nil, 0o600))
	d := scratch(t)
	tree, err := Copy(t.Context(), src, d, Options{LockFile: ".ref"})
	check(t, err)
	agree(t, tree, filepath.Join(d.Name(), "files"))
	if string(tree.Metadata) != "[Runtime]\n" || tree.Dropped.Beside != 1 || len(tree.Entries) != 3 {
		t.Errorf("%+v", tree)
	}
	// The lock file's other name is inside.
	check(t, os.Link(filepath.Join(src, "files", ".ref"), filepath.Join(src, "files", "bin", "ref")))
	_, err = Copy(t.Context(), src, scratch(t), Options{LockFile: ".ref"})
	wantError(t, err, ErrUnsafe, "files/.ref")
}

func TestCopyLimits(t *testing.T) {
	src := scratch(t).Name()
	for _, n := range []string{"a", "b"} {
		check(t, os.WriteFile(filepath.Join(src, n), []byte("12345"), 0o600))
	}
	_, err := Copy(t.Context(), src, scratch(t), Options{MaxSize: 9})
	wantError(t, err, ErrTooBig, "b")
	_, err = Copy(t.Context(), src, scratch(t), Options{MaxMembers: 2})
	wantError(t, err, ErrTooBig, "b")
}

func TestCopyIntoItself(t *testing.T) {
	src := scratch(t).Name()
	inside := filepath.Join(src, "a", "b")
	check(t, os.MkdirAll(inside, 0o755))
	d, err := os.Open(inside)
	check(t, err)
	defer d.Close()
	_, err = Copy(t.Context(), src, d, Options{})
	wantError(t, err, ErrUnsafe, "a/b")
}

func TestCopyOfWhatIsNoDirectory(t *testing.T) {
	d := scratch(t).Name()
	check(t, os.WriteFile(filepath.Join(d, "file"), nil, 0o644))
	for name, want := range map[string]error{"file": unix.ENOTDIR, "missing": unix.ENOENT} {
		_, err := Copy(t.Context(), filepath.Join(d, name), scratch(t), Options{})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		wantError(t, err, nil, "")
	}
}

func TestCopyUnreadable(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		src := scratch(t).Name()
		check(t, os.WriteFile(filepath.Join(src, "closed"), []byte("x"), 0))
		_, err := Copy(t.Context(), src, scratch(t), Options{})
		if os.Getuid() != 0 && !errors.Is(err, unix.EACCES) || os.Getuid() == 0 && err != nil {
			t.Errorf("%v", err)
		}
		wantError(t, err, nil, "")
	})
}

// TestCopyOfWhatChanges changes files while they are read.
func TestCopyOfWhatChanges(t *testing.T) {
	for name, change := range map[string]func(p string) error{
		"shorter": func(p string) error { return os.Truncate(p, 300<<10) },
		"longer":  func(p string) error { return os.Truncate(p, 1<<20) },
		"written": func(p string) error { return os.Chtimes(p, time.Time{}, someTime) },
	} {
		src := scratch(t).Name()
		p := filepath.Join(src, "file")
		check(t, os.WriteFile(p, []byte(noise(600<<10)), 0o644))
		done := false
		_, err := Copy(t.Context(), src, scratch(t), Options{Read: func(int64) {
			if !done {
				check(t, change(p))
			}
			done = true
		}})
		if !errors.Is(err, errChanged) {
			t.Errorf("%s: %v", name, err)
		}
		wantError(t, err, nil, "")
	}
}

// TestCopyNeverFollows has a directory in place of which a link is put.
func TestCopyNeverFollows(t *testing.T) {
	src, other := scratch(t).Name(), scratch(t).Name()
	check(t, os.WriteFile(filepath.Join(other, "secret"), nil, 0o644))
	check(t, os.WriteFile(filepath.Join(src, "a"), []byte("x"), 0o644))
	check(t, os.Mkdir(filepath.Join(src, "b"), 0o755))
	check(t, os.WriteFile(filepath.Join(src, "b", "c"), nil, 0o644))
	d := scratch(t)
	w, err := openWalk(src, inodeOf(t, d.Name()), nil)
	check(t, err)
	defer w.close()
	var names []string
	for {
		h, err := w.Next()
		if err != nil {
			if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
				t.Errorf("%v", err)
			}
			break
		}
		names = append(names, h.Name)
		w.left = 0
		if h.Name == "b" {
			w.at.cut(0) // as if it were too deep to be held
			check(t, os.Rename(filepath.Join(src, "b"), filepath.Join(src, "z")))
			check(t, os.Symlink(other, filepath.Join(src, "b")))
		}
	}
	if !slices.Equal(names, []string{".", "a", "b"}) {
		t.Errorf("%q", names)
	}
}
