package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/store/manifest"
)

// asBoth runs a test as root and, in a process of its own, as somebody without
// privileges.
func asBoth(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	const mark = "ARCHIVE_TEST_UNPRIVILEGED"
	if os.Getenv(mark) != "" {
		test(t)
		return
	}
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	t.Run("root", test)
	t.Run("nobody", func(t *testing.T) {
		// Not t.TempDir, which only root may enter.
		dir, err := os.MkdirTemp("", "nobody")
		check(t, err)
		defer os.RemoveAll(dir)
		check(t, os.Chmod(dir, 0o755))
		binary := filepath.Join(dir, "test")
		self, err := os.ReadFile("/proc/self/exe")
		check(t, err)
		check(t, os.WriteFile(binary, self, 0o755))
		tmp := filepath.Join(dir, "tmp")
		check(t, os.Mkdir(tmp, 0o755))
		check(t, os.Chown(tmp, 65534, 65534))
		top, _, _ := strings.Cut(t.Name(), "/")
		cmd := exec.Command(binary, "-test.run=^"+top+"$")
		cmd.Dir = tmp
		cmd.Env = append(os.Environ(), mark+"=1", "TMPDIR="+tmp, "HOME="+tmp)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("PASS")) || bytes.Contains(out, []byte("no tests")) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scratch is a directory that is deleted whatever the modes in it are.
func scratch(t testing.TB) *os.File {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(dir)
	check(t, err)
	t.Cleanup(func() {
		f.Close()
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
	})
	return f
}

// A member of an archive to be made.
type member struct {
	tar.Header
	content string
}

var (
	someTime = time.Unix(1700000000, 123456789)
	oldTime  = time.Unix(-100, 500)
)

func file(name, content string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: someTime}, content}
}

func dir(name string, mode int64) member {
	return member{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: someTime}, ""}
}

func link(name, target string) member {
	return member{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: someTime}, ""}
}

func hard(name, target string) member {
	return member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, ModTime: someTime}, ""}
}

func node1(name string, typ byte) member {
	return member{tar.Header{Typeflag: typ, Name: name, Mode: 0o644, ModTime: someTime}, ""}
}

func (m member) with(change func(*tar.Header)) member {
	change(&m.Header)
	return m
}

func pack(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		h.Size = int64(len(m.content))
		if h.Format == tar.FormatUnknown {
			h.Format = tar.FormatPAX
		}
		check(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, m.content)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

func unpack(t testing.TB, archive []byte, opt Options) (*Tree, string, error) {
	t.Helper()
	d := scratch(t)
	tree, err := Unpack(context.Background(), bytes.NewReader(archive), d, opt)
	if (tree == nil) == (err == nil) {
		t.Fatalf("tree %v and error %v", tree, err)
	}
	return tree, d.Name(), err
}

func mustUnpack(t testing.TB, opt Options, members ...member) (*Tree, string) {
	t.Helper()
	archive := pack(t, members...)
	tree, at, err := unpack(t, archive, opt)
	check(t, err)
	if tree.Digest != sha256.Sum256(archive) || tree.SourceSize != int64(len(archive)) {
		t.Error("digest or size of the archive")
	}
	return tree, at
}

// snapshot describes a tree, and opens what is closed on its way.
func snapshot(t testing.TB, top string) map[string]string {
	t.Helper()
	got := map[string]string{}
	first := map[uint64]string{}
	var walk func(p, rel string)
	walk = func(p, rel string) {
		var st unix.Stat_t
		check(t, unix.Lstat(p, &st))
		s := fmt.Sprintf("%o %d.%09d", st.Mode, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(p)
			check(t, err)
			s += " -> " + target
		case unix.S_IFREG:
			check(t, os.Chmod(p, 0o600))
			b, err := os.ReadFile(p)
			check(t, err)
			check(t, unix.Chmod(p, st.Mode&0o7777))
			s += fmt.Sprintf(" %d %x", st.Size, sha256.Sum256(b))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if one, ok := first[st.Ino]; ok {
				s += " = " + one
			} else {
				first[st.Ino] = rel
			}
		}
		buf := make([]byte, 4096)
		if n, err := unix.Llistxattr(p, buf); err == nil {
			for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
				if strings.HasPrefix(name, "user.") {
					v := make([]byte, 4096)
					n, err := unix.Lgetxattr(p, name, v)
					check(t, err)
					s += fmt.Sprintf(" %s=%q", name, v[:n])
				}
			}
		}
		got[rel] = s
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return
		}
		check(t, os.Chmod(p, 0o700))
		names, err := os.ReadDir(p)
		check(t, err)
		for _, n := range names {
			walk(filepath.Join(p, n.Name()), filepath.Join(rel, n.Name()))
		}
		check(t, unix.Chmod(p, st.Mode&0o7777))
	}
	walk(top, ".")
	return got
}

func compare(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			t.Errorf("%s: %q\n\tgot  %q\n\twant %q", what, p, got[p], want[p])
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: %q is too much", what, p)
		}
	}
}

// agree compares what is on disk with what Unpack said.
func agree(t testing.TB, tree *Tree, files string) {
	t.Helper()
	disk := snapshot(t, files)
	said := map[string]string{}
	group := map[string]string{}
	for _, g := range tree.LinkGroups {
		if len(g) < 2 || !slices.IsSorted(g) {
			t.Errorf("link group %q", g)
		}
		for _, p := range g[1:] {
			group[p] = " = " + g[0]
		}
	}
	var size int64
	for i, e := range tree.Entries {
		if i == 0 != (e.Path == ".") || i > 1 && tree.Entries[i-1].Path >= e.Path {
			t.Errorf("entry %d is %q", i, e.Path)
		}
		typ := map[manifest.Type]uint32{manifest.Dir: unix.S_IFDIR, manifest.File: unix.S_IFREG, manifest.Link: unix.S_IFLNK}[e.Type]
		s := fmt.Sprintf("%o %d.%09d", typ|e.Mode, e.Time.Unix(), e.Time.Nanosecond())
		switch e.Type {
		case manifest.Link:
			s += " -> " + e.Link
		case manifest.File:
			s += fmt.Sprintf(" %d %x", e.Size, e.Digest)
			if group[e.Path] == "" {
				size += e.Size
			}
		}
		said[e.Path] = s + group[e.Path]
	}
	for p, s := range disk {
		s, _, _ := strings.Cut(s, " user.")
		// The first path in a directory's order need not be the first of all.
		if a, _, ok := strings.Cut(s, " = "); ok || group[p] != "" {
			s = a + group[p]
		}
		disk[p] = s
	}
	compare(t, "entries", said, disk)
	if size != tree.Size {
		t.Errorf("size %d, want %d", tree.Size, size)
	}
}

// wantError tests for one of the three sentinels and for nothing of the others.
func wantError(t testing.TB, err, want error, member string) {
	t.Helper()
	for _, kind := range []error{ErrUnsafe, ErrFormat, ErrTooBig} {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("%v: Is(%v) is %v", err, kind, kind != want)
		}
	}
	var m *MemberError
	if errors.As(err, &m); member != "" && (m == nil || m.Member != member) {
		t.Errorf("%v does not blame %q", err, member)
	}
}
