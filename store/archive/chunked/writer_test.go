package chunked

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A part is a member to be written.
type part struct {
	header  tar.Header
	content []byte
}

func file(name string, content []byte) part {
	return part{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)),
		ModTime: time.Unix(1700000000, 0)}, content}
}

// testChunk makes the archives of tests small.
const testChunk = 64 << 10

// parts are of every kind, and of the sizes at which something changes.
func parts() []part {
	noise := make([]byte, 3*testChunk+5)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	holes := make([]byte, 3*testChunk)
	copy(holes[2*testChunk:], "not zero")
	long := strings.Repeat("long/", 60) + "ü"
	ps := []part{
		{header: tar.Header{Typeflag: tar.TypeDir, Name: "files/", Mode: 0o755, ModTime: time.Unix(1, 0)}},
		file("files/empty", nil),
		file("files/one", []byte("1")),
		file("files/exactly", noise[:testChunk]),
		file("files/and-one-more", noise[1:testChunk+2]),
		file("files/noise", noise),
		file("files/holes", holes),
		file("files/zeros", make([]byte, 2*testChunk)),
		file("files/"+long, []byte(long)),
		{header: tar.Header{Typeflag: tar.TypeSymlink, Name: "files/<&>", Linkname: long, Mode: 0o777}},
		{header: tar.Header{Typeflag: tar.TypeLink, Name: "files/hard", Linkname: "files/one", Mode: 0o644}},
		{header: tar.Header{Typeflag: tar.TypeFifo, Name: "files/fifo", Mode: 0o600}},
		{header: tar.Header{Typeflag: tar.TypeChar, Name: "files/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{header: tar.Header{Typeflag: tar.TypeBlock, Name: "files/loop", Mode: 0o660, Devmajor: 7}},
		file("files/attr", []byte("attr")),
	}
	for i := range 300 {
		ps = append(ps, file(fmt.Sprintf("files/small/%d", i), noise[i*100:i*100+i]))
	}
	attr := &ps[14].header
	attr.PAXRecords = map[string]string{xattrRecord + "user.b": "\xff\x00", xattrRecord + "user.a": "2"}
	attr.ModTime, attr.Format = time.Unix(1700000000, 123456789), tar.FormatPAX
	attr.Uid, attr.Gid, attr.Mode = 1<<22, 65534, 0o4755
	attr.AccessTime, attr.ChangeTime = time.Unix(5, 0), time.Unix(6, 7)
	return ps
}

// A memberWriter is both our Writer and tar.Writer.
type memberWriter interface {
	WriteHeader(*tar.Header) error
	io.Writer
}

func writeParts(t testing.TB, w memberWriter, ps []part) {
	t.Helper()
	for _, p := range ps {
		if err := w.WriteHeader(&p.header); err != nil {
			t.Fatal(err)
		}
		// In pieces that are no divisor of anything.
		for piece := range slices.Chunk(p.content, 12345) {
			if n, err := w.Write(piece); err != nil || n != len(piece) {
				t.Fatalf("%s: %d, %v", p.header.Name, n, err)
			}
		}
	}
}

// pack makes an archive.
func pack(t testing.TB, ps []part) ([]byte, Summary) {
	t.Helper()
	var b bytes.Buffer
	w, err := newWriter(&b, zstd.SpeedDefault, 3, testChunk)
	if err != nil {
		t.Fatal(err)
	}
	writeParts(t, w, ps)
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), s
}

func open(t testing.TB, archive []byte) *Index {
	t.Helper()
	x, err := Open(bytes.NewReader(archive), int64(len(archive)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestRoundTrip(t *testing.T) {
	ps := parts()
	archive, s := pack(t, ps)
	x, err := Open(bytes.NewReader(archive), int64(len(archive)), Options{Digest: &s.TOCDigest})
	if err != nil {
		t.Fatal(err)
	}
	if s.Members != len(ps) || s.Size != int64(len(archive)) || len(x.Entries()) != len(ps) {
		t.Errorf("%+v, %d entries", s, len(x.Entries()))
	}
	r := x.Reader(x.Entries(), ReadOptions{})
	var size int64
	for _, p := range ps {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Name != p.header.Name || e.Type != p.header.Typeflag {
			t.Errorf("%s is %s", p.header.Name, e.Name)
		}
		if err := e.agrees(e.Header()); err != nil {
			t.Errorf("%s: its own header: %v", e.Name, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, p.content) {
			t.Errorf("%s: %d bytes, %v", e.Name, len(got), err)
		}
		size += e.Size
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if x.Size() != size {
		t.Errorf("size %d, not %d", x.Size(), size)
	}
	if err := x.Compare(untar(t, archive)); err != nil {
		t.Error(err)
	}
	if zeros := x.Entries()[6].chunks; len(zeros) != 3 || !zeros[0].zeros || !zeros[1].zeros || zeros[2].zeros {
		t.Errorf("the chunks of the file with a hole: %+v", zeros)
	}
}

// What it decompresses to is what tar.Writer writes.
func TestTarStream(t *testing.T) {
	ps := parts()
	archive, s := pack(t, ps)
	var want bytes.Buffer
	w := tar.NewWriter(&want)
	writeParts(t, w, ps)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("zstd", "-dc")
	cmd.Stdin = bytes.NewReader(archive)
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("needs zstd: %v", err)
	}
	if !bytes.Equal(got, want.Bytes()) || s.TarSize != int64(len(got)) {
		t.Errorf("%d bytes that differ from %d, and the summary has %d", len(got), want.Len(), s.TarSize)
	}
}

func TestSameBytes(t *testing.T) {
	ps := parts()
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression} {
		var first []byte
		for _, workers := range []int{1, 2, 7, 7} {
			var b bytes.Buffer
			w, err := newWriter(&b, level, workers, testChunk)
			if err != nil {
				t.Fatal(err)
			}
			writeParts(t, w, ps)
			if _, err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = b.Bytes()
			} else if !bytes.Equal(first, b.Bytes()) {
				t.Errorf("%s with %d workers: other bytes", level, workers)
			}
		}
	}
}

// A tree of the machine, read by zstd, GNU tar and bsdtar.
func TestOtherReaders(t *testing.T) {
	const root = "/usr/share/perl5"
	ps := tree(t, root)
	if len(ps) < 100 {
		t.Fatalf("needs a tree in %s", root)
	}
	archive, s := pack(t, ps)
	name := filepath.Join(t.TempDir(), "tree.tar.zst")
	if err := os.WriteFile(name, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "zstd", "-q", "-t", name)
	var names []string
	for _, p := range ps {
		names = append(names, p.header.Name)
	}
	for _, command := range [][]string{{"tar", "--zstd", "--quoting-style=literal", "-tf", name}, {"bsdtar", "-tf", name}} {
		if got := strings.Split(strings.TrimSuffix(run(t, command...), "\n"), "\n"); !slices.Equal(got, names) {
			t.Errorf("%s lists %d members, not %d", command[0], len(got), len(names))
		}
	}
	run(t, "tar", "--zstd", "-tvf", name)
	to := t.TempDir()
	run(t, "tar", "--zstd", "-xf", name, "-C", to)
	run(t, "diff", "-r", "--no-dereference", root, to)

	x := open(t, archive)
	if x.Digest() != s.TOCDigest {
		t.Error("the table has another digest")
	}
	if err := x.Compare(untar(t, archive)); err != nil {
		t.Error(err)
	}
	r := x.Reader(x.Entries(), ReadOptions{Buffer: 4096})
	for e, err := r.Next(); err != io.EOF; e, err = r.Next() {
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == tar.TypeReg && !bytes.Equal(got, readFile(t, filepath.Join(root, e.Name))) {
			t.Errorf("%s differs", e.Name)
		}
	}
}

func run(t *testing.T, command ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", command, err, out, stderr.String())
	}
	return string(out)
}

func tree(t testing.TB, root string) (ps []part) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var p part
		if info.Mode().IsRegular() {
			p.content = readFile(t, name)
		}
		target, _ := os.Readlink(name)
		h, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		p.header = *h
		p.header.Name, _ = filepath.Rel(root, name)
		if d.IsDir() {
			p.header.Name += "/"
		}
		ps = append(ps, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func TestNothing(t *testing.T) {
	archive, s := pack(t, nil)
	if x := open(t, archive); len(x.Entries()) != 0 || s.Members != 0 {
		t.Errorf("%d entries", len(x.Entries()))
	}
}

func TestRefusedMembers(t *testing.T) {
	for name, c := range map[string]struct {
		want error
		ps   []part
	}{
		"name":       {ErrInexpressible, []part{file("caf\xe9", nil)}},
		"lost name":  {ErrInexpressible, []part{file("caf\ufffd", nil)}},
		"target":     {ErrInexpressible, []part{{header: tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "\xff"}}}},
		"attribute":  {ErrInexpressible, []part{{header: tar.Header{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{xattrRecord + "user.\ufffd": "1"}}}}},
		"time":       {ErrInexpressible, []part{{header: tar.Header{Typeflag: tar.TypeDir, Name: "a", ModTime: time.Unix(1<<40, 0), Format: tar.FormatPAX}}}},
		"type":       {ErrFormat, []part{{header: tar.Header{Typeflag: tar.TypeCont, Name: "a"}}}},
		"twice":      {ErrFormat, []part{file("a", nil), file("./a", nil)}},
		"nul":        {nil, []part{file("a\x00b", nil)}},
		"incomplete": {nil, []part{{header: file("a", []byte("abc")).header}, file("b", nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := NewWriter(io.Discard, zstd.SpeedFastest)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range c.ps {
				err = w.WriteHeader(&p.header)
			}
			if c.want != nil {
				mustBe(t, err, c.want)
			} else if err == nil {
				t.Error("no error")
			}
			if _, again := w.Close(); again != err {
				t.Errorf("then Close says %v", again)
			}
			if _, again := w.Write([]byte("x")); again != err {
				t.Errorf("then Write says %v", again)
			}
		})
	}
}

func TestWriteTooMuch(t *testing.T) {
	w, err := NewWriter(io.Discard, zstd.SpeedFastest)
	if err != nil {
		t.Fatal(err)
	}
	p := file("a", []byte("abc"))
	if err := w.WriteHeader(&p.header); err != nil {
		t.Fatal(err)
	}
	n, err := w.Write([]byte("abcd"))
	if n != 3 || !errors.Is(err, tar.ErrWriteTooLong) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestClosed(t *testing.T) {
	w, err := NewWriter(io.Discard, zstd.SpeedFastest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err == nil {
		t.Error("closed twice without an error")
	}
}

// A fullDisk takes so many bytes.
type fullDisk int

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), int(*d))
	if *d -= fullDisk(n); n < len(p) {
		return n, errFull
	}
	return n, nil
}

var errFull = errors.New("disk full")

func TestDiskFull(t *testing.T) {
	ps := parts()
	_, s := pack(t, ps)
	for _, room := range []int64{0, 1, s.Size / 2, s.Size - s.TOCSize - 80, s.Size - 1} {
		d := fullDisk(room)
		w, err := newWriter(&d, zstd.SpeedDefault, 2, testChunk)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			w.WriteHeader(&p.header)
			w.Write(p.content)
		}
		if _, err := w.Close(); !errors.Is(err, errFull) {
			t.Errorf("room for %d: %v", room, err)
		}
	}
}

func TestSummaryDigest(t *testing.T) {
	archive, s := pack(t, parts()[:3])
	f, err := readFooter(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	if got := sha256.Sum256(archive[f.table.start:f.table.end]); got != s.TOCDigest || f.table.size() != s.TOCSize {
		t.Errorf("%x, %d bytes", got, f.table.size())
	}
}

func mustBe(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v is not %q", err, want)
	}
}
