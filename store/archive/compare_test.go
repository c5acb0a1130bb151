package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nastyTree has all that a member can be, in PAX format. setid tells whether
// programs that keep setuid bits will differ from us.
func nastyTree() []member {
	long := strings.Repeat("long/", 30) + strings.Repeat("n", 250)
	xattr := func(key, value string) func(*tar.Header) {
		return func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + key: value} }
	}
	mode := func(m int64) func(*tar.Header) { return func(h *tar.Header) { h.Mode = m } }
	at := func(when time.Time) func(*tar.Header) { return func(h *tar.Header) { h.ModTime = when } }
	all := []member{
		dir("./", 0o755),
		dir("ro", 0o555).with(at(oldTime)),
		file("ro/in", "content"),
		dir("ro/closed", 0),
		file("ro/closed/in", "hidden").with(mode(0)),
		dir("sticky", 0o1777),
		file("empty1", ""),
		file("empty2", ""),
		file("sticky/suid", "s").with(mode(0o755)),
		file("big", strings.Repeat("0123456789abcdef", 70000)).with(mode(0o755)),
		hard("big-again", "big"),
		hard("ro/big", "./big"),
		link("dangling", "no/where"),
		link("absolute", "/etc/passwd").with(at(oldTime)),
		link("up", "../../../up"),
		hard("absolute-again", "absolute"),
		file(long, "deep"),
		link("to-long", strings.Repeat("x", 300)),
		file("bytes \xff\xfe *?[\\\n", "x").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"hdrcharset": "BINARY"} // for bsdtar
		}),
		file("future", "f").with(at(time.Unix(1<<32+5, 1))),
		file("old", "o").with(at(oldTime)),
		file("attr", "a").with(xattr("user.test", "value\x00\xff")),
		dir("attrdir", 0o755).with(xattr("user.dir", "v")),
		file("...", "dots"),
		file("a..b", "dots"),
		file("twice", "first"),
		hard("twice-link", "twice"),
		file("twice", "second, longer"),
		link("was-link", "target"),
		file("was-link", "now a file"),
		file("was-file", "file"),
		link("was-file", "now a link"),
		file("implied/parents/of", "x"),
		dir("implied", 0o700),
		dir("implied/parents", 0o711),
		dir("ro", 0o511), // again: this one counts
	}
	for m := range int64(8) {
		all = append(all, file("mode"+strconv.FormatInt(m, 8), "x").with(mode(m*0o111)))
	}
	// What no member describes would get the time of the extraction from tar.
	for part := 1; part <= 30; part++ {
		all = append(all, dir(strings.Repeat("long/", part), 0o755))
	}
	return all
}

func compressors() map[string][]string {
	return map[string][]string{
		"plain":    nil,
		"gzip":     {"gzip", "-c"},
		"zstd":     {"zstd", "-c", "-q"},
		"pzstd":    {"pzstd", "-c", "-q"},
		"zstdLong": {"zstd", "-c", "-q", "--long=27"},
		"xz":       {"xz", "-c"},
		"xzBlocks": {"xz", "-c", "--block-size=65536", "--check=sha256"},
		"bzip2":    {"bzip2", "-c"},
	}
}

func pipe(t testing.TB, in []byte, command ...string) []byte {
	t.Helper()
	if len(command) == 0 {
		return in
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("needs %q: %v %s", command, err, stderr.Bytes())
	}
	return out
}

// extract has another program unpack.
func extract(t *testing.T, archive []byte, command ...string) string {
	t.Helper()
	d := scratch(t).Name()
	at := filepath.Join(d, "x")
	check(t, os.Mkdir(at, 0o700))
	p := filepath.Join(d, "archive.tar")
	check(t, os.WriteFile(p, archive, 0o600))
	cmd := exec.Command(command[0], append(command[1:], "-f", p, "-C", at)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", command, err, out)
	}
	return at
}

var (
	gnuTar = []string{"tar", "-x", "-p", "--no-same-owner", "--xattrs", "--xattrs-include=user.*", "--delay-directory-restore"}
	bsdTar = []string{"bsdtar", "-x", "-p", "--no-same-owner"}
)

// compareBSD compares bsdtar with GNU tar, where they agree: libarchive gets
// fractions of seconds before 1970 wrong, takes the first of several members
// for one directory, and leaves the time of the top as it is.
func compareBSD(t *testing.T, archive []byte, want map[string]string) {
	t.Helper()
	got := snapshot(t, extract(t, archive, bsdTar...))
	want = maps.Clone(want)
	for _, p := range []string{".", "ro", "old", "absolute", "absolute-again"} {
		delete(want, p)
		delete(got, p)
	}
	compare(t, "bsdtar and GNU tar", got, want)
}

func TestSameAsTar(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		archive := pack(t, nastyTree()...)
		want := snapshot(t, extract(t, archive, gnuTar...))
		compareBSD(t, archive, want)
		for name, command := range compressors() {
			for _, umask := range []int{0, 0o022, 0o077, 0o777} {
				packed := pipe(t, archive, command...)
				d := scratch(t)
				old := syscall.Umask(umask)
				tree, err := Unpack(context.Background(), bytes.NewReader(packed), d, Options{})
				syscall.Umask(old)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				files := filepath.Join(d.Name(), "files")
				compare(t, name, snapshot(t, files), want)
				agree(t, tree, files)
				if tree.Dropped != (Dropped{}) {
					t.Errorf("dropped %+v", tree.Dropped)
				}
				if len(tree.LinkGroups) != 2 || tree.SourceSize != int64(len(packed)) {
					t.Errorf("groups %q, size %d", tree.LinkGroups, tree.SourceSize)
				}
				names, err := os.ReadDir(d.Name())
				if err != nil || len(names) != 1 {
					t.Errorf("left in the destination: %v (%v)", names, err)
				}
			}
		}
	})
}

func TestCopySameAsTar(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		src := extract(t, pack(t, nastyTree()...), gnuTar...)
		if os.Getuid() != 0 {
			// What nobody may read cannot be copied by nobody.
			for _, p := range []string{"ro/closed", "ro/closed/in", "mode0", "mode1", "mode2", "mode3"} {
				check(t, os.Chmod(filepath.Join(src, p), 0o700))
			}
		}
		check(t, unix.Mkfifo(filepath.Join(src, "sticky", "fifo"), 0o644))
		check(t, os.Chtimes(filepath.Join(src, "sticky"), someTime, someTime))
		want := snapshot(t, src)
		delete(want, "sticky/fifo")
		for _, umask := range []int{0o022, 0o777} {
			var read int64
			d := scratch(t)
			old := syscall.Umask(umask)
			tree, err := Copy(context.Background(), src, d, Options{Read: func(n int64) { read += n }})
			syscall.Umask(old)
			check(t, err)
			files := filepath.Join(d.Name(), "files")
			compare(t, "copy", snapshot(t, files), want)
			agree(t, tree, files)
			if tree.Dropped != (Dropped{Nodes: 1}) {
				t.Errorf("dropped %+v", tree.Dropped)
			}
			if tree.SourceSize != tree.Size || read != tree.Size || tree.Digest != [32]byte{} {
				t.Errorf("size %d, source %d, read %d", tree.Size, tree.SourceSize, read)
			}
		}
	})
}

// TestFormats has the members of other formats and other programs' archives.
func TestFormats(t *testing.T) {
	src := scratch(t).Name()
	deep := filepath.Join(src, strings.Repeat("directory/", 15))
	check(t, os.MkdirAll(deep, 0o755))
	check(t, os.WriteFile(filepath.Join(deep, strings.Repeat("f", 200)), []byte("deep"), 0o640))
	check(t, os.Symlink(strings.Repeat("t", 200), filepath.Join(src, "link")))
	check(t, os.Link(filepath.Join(deep, strings.Repeat("f", 200)), filepath.Join(src, "hard")))
	f, err := os.Create(filepath.Join(src, "sparse"))
	check(t, err)
	for _, at := range []int64{0, 5 << 20, 9<<20 + 123} {
		_, err := f.WriteAt([]byte("island"), at)
		check(t, err)
	}
	check(t, f.Truncate(16<<20))
	check(t, f.Close())
	all, err := filepath.Glob(src + "/*")
	check(t, err)
	for _, p := range append(all, src, deep) {
		ts := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	check(t, filepath.Walk(src, func(p string, i os.FileInfo, err error) error {
		ts := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
	}))
	want := snapshot(t, src)

	for name, c := range map[string]struct {
		command []string
		sparse  bool
	}{
		"gnu":             {[]string{"tar", "-c", "--format=gnu"}, false},
		"gnu sparse":      {[]string{"tar", "-c", "--format=gnu", "--sparse"}, true},
		"pax":             {[]string{"tar", "-c", "--format=pax"}, false},
		"pax sparse 0.0":  {[]string{"tar", "-c", "--format=pax", "--sparse", "--sparse-version=0.0"}, true},
		"pax sparse 0.1":  {[]string{"tar", "-c", "--format=pax", "--sparse", "--sparse-version=0.1"}, true},
		"pax sparse 1.0":  {[]string{"tar", "-c", "--format=pax", "--sparse", "--sparse-version=1.0"}, true},
		"labelled":        {[]string{"tar", "-c", "--format=gnu", "--label=volume"}, false},
		"bsdtar pax":      {[]string{"bsdtar", "-c", "--format=pax"}, true},
		"bsdtar gnutar":   {[]string{"bsdtar", "-c", "--format=gnutar"}, false},
		"big record size": {[]string{"tar", "-c", "--blocking-factor=2000"}, false},
		"git's comment":   {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			var archive []byte
			if c.command == nil {
				archive = pack(t, member{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header",
					PAXRecords: map[string]string{"comment": "0123456789"}}}, file("a", "x"))
			} else {
				archive = pipe(t, nil, append(c.command, "-f", "-", "-C", src, ".")...)
			}
			tree, at, err := unpack(t, archive, Options{})
			check(t, err)
			files := filepath.Join(at, "files")
			agree(t, tree, files)
			if c.command == nil {
				return
			}
			compare(t, name, snapshot(t, files), want)
			if c.sparse {
				var st unix.Stat_t
				check(t, unix.Stat(filepath.Join(files, "sparse"), &st))
				if st.Blocks*512 > 1<<20 {
					t.Errorf("%d bytes on disk for three islands", st.Blocks*512)
				}
			}
		})
	}

	t.Run("copy", func(t *testing.T) {
		d := scratch(t)
		tree, err := Copy(context.Background(), src, d, Options{})
		check(t, err)
		files := filepath.Join(d.Name(), "files")
		compare(t, "copy", snapshot(t, files), want)
		agree(t, tree, files)
		var st unix.Stat_t
		check(t, unix.Stat(filepath.Join(files, "sparse"), &st))
		if st.Blocks*512 > 1<<20 {
			t.Errorf("%d bytes on disk for three islands", st.Blocks*512)
		}
	})
}
