package chunked

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// A recorder notes what is read of an archive.
type recorder struct {
	r     io.ReaderAt
	reads []Range
}

func (r *recorder) ReadAt(p []byte, offset int64) (int, error) {
	r.reads = append(r.reads, Range{offset, int64(len(p))})
	return r.r.ReadAt(p, offset)
}

// recorded opens an archive, and forgets how.
func recorded(t testing.TB, archive []byte) (*Index, *recorder) {
	t.Helper()
	r := &recorder{r: bytes.NewReader(archive)}
	x, err := Open(r, int64(len(archive)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.reads) != 2 {
		t.Errorf("opened with %v", r.reads)
	}
	r.reads = nil
	return x, r
}

func smallFiles(n int) (ps []part) {
	noise := make([]byte, 1000)
	random := rand.NewChaCha8([32]byte{2})
	for i := range n {
		random.Read(noise)
		ps = append(ps, file(fmt.Sprintf("%06d", i), bytes.Clone(noise)))
	}
	return ps
}

func TestCoalescing(t *testing.T) {
	archive, _ := pack(t, smallFiles(1000))
	for _, c := range []struct {
		name  string
		opt   ReadOptions
		pick  func(i int) bool
		reads int
	}{
		{"all", ReadOptions{Buffer: 1 << 30}, func(int) bool { return true }, 1},
		{"every other", ReadOptions{Buffer: 1 << 30}, func(i int) bool { return i%2 == 0 }, 1},
		{"far apart", ReadOptions{}, func(i int) bool { return i%100 == 0 }, 10},
		{"small gap", ReadOptions{Gap: 100}, func(i int) bool { return i%10 == 0 }, 100},
		{"no gap", ReadOptions{Gap: -1}, func(i int) bool { return i < 10 }, 10},
		{"in pieces", ReadOptions{Buffer: 100000}, func(i int) bool { return i < 91 }, 2},
		{"two groups", ReadOptions{}, func(i int) bool { return i < 10 || i > 900 && i < 910 }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, rec := recorded(t, archive)
			before := x.BytesRead()
			var some []*Entry
			for i, e := range x.Entries() {
				if c.pick(i) {
					some = append(some, e)
				}
			}
			if err := drainEntries(x, some, c.opt); err != nil {
				t.Fatal(err)
			}
			if len(rec.reads) != c.reads {
				t.Errorf("%d reads, not %d", len(rec.reads), c.reads)
			}
			var read, planned int64
			for _, r := range rec.reads {
				read += r.Size
			}
			ranges := x.Ranges(some, c.opt)
			for _, r := range ranges {
				planned += r.Size
			}
			if read != x.BytesRead()-before {
				t.Errorf("%d bytes read and %d counted", read, x.BytesRead()-before)
			}
			if read != planned {
				t.Errorf("%d bytes read and %d planned", read, planned)
			}
			if c.opt.Buffer == 0 && !slices.Equal(rec.reads, ranges) {
				t.Error("other ranges are read than planned")
			}
		})
	}
}

// A hole is not read, and a big chunk goes through a small buffer.
func TestBigFiles(t *testing.T) {
	ps := parts()
	archive, _ := pack(t, ps)
	x, rec := recorded(t, archive)
	for i, p := range ps {
		rec.reads = nil
		e := x.Entries()[i]
		var got bytes.Buffer
		r := x.Reader([]*Entry{e}, ReadOptions{Buffer: 1000})
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, r, make([]byte, 777)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), p.content) {
			t.Errorf("%s differs", e.Name)
		}
		for _, read := range rec.reads {
			if read.Size > 1000 {
				t.Errorf("%s: a read of %d bytes", e.Name, read.Size)
			}
		}
		if e.Name == "files/zeros" && len(rec.reads) > 0 {
			t.Errorf("zeros are read: %v", rec.reads)
		}
	}
}

// Zeros at the end of a file, and at the beginning of the next one, are no
// reason to read on.
func TestZerosBetween(t *testing.T) {
	noise := smallFiles(1)[0].content
	padded := make([]byte, 2*testChunk)
	copy(padded, noise)
	archive, _ := pack(t, []part{file("a", padded), file("b", make([]byte, 5*testChunk))})
	x, rec := recorded(t, archive)
	readAll(t, x)
	first := x.Entries()[0].chunks[0].stored
	if want := (Range{first.start, first.size()}); !slices.Equal(rec.reads, []Range{want}) {
		t.Errorf("%v is read, not %v", rec.reads, want)
	}
}

// What is skipped is not read, and what comes twice is read twice.
func TestSkipAndRepeat(t *testing.T) {
	ps := smallFiles(200)
	archive, _ := pack(t, ps)
	x, rec := recorded(t, archive)
	all := x.Entries()
	some := []*Entry{all[0], all[150], all[150], all[1], all[151], all[0]}
	r := x.Reader(some, ReadOptions{})
	for i, index := range []int{0, 150, 150, 1, 151, 0} {
		e, err := r.Next()
		if err != nil || e != all[index] {
			t.Fatalf("%d: %v, %v", i, e, err)
		}
		if i == 3 {
			io.CopyN(io.Discard, r, 5) // leave it in the middle
			continue
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, ps[index].content) {
			t.Errorf("%d: %d bytes, %v", i, len(got), err)
		}
	}
	for range 2 {
		if _, err := r.Next(); err != io.EOF {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	}
	rec.reads = nil
	r = x.Reader(all, ReadOptions{})
	for range all {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(rec.reads) != 0 {
		t.Errorf("%d reads for nothing", len(rec.reads))
	}
}

func TestReadBeforeNext(t *testing.T) {
	archive, _ := pack(t, smallFiles(1))
	x := open(t, archive)
	if n, err := x.Reader(x.Entries(), ReadOptions{}).Read(make([]byte, 9)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

func TestReadNothing(t *testing.T) {
	archive, _ := pack(t, smallFiles(1))
	x := open(t, archive)
	r, err := x.Content(x.Entries()[0])
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(nil); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	readAll(t, x)
}

func TestConcurrentReaders(t *testing.T) {
	archive, _ := pack(t, parts())
	x := open(t, archive)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := drainEntries(x, x.Entries(), ReadOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// A failing reads until it does not.
type failing struct {
	io.ReaderAt
	left int
}

var errGone = errors.New("the server is gone")

func (f *failing) ReadAt(p []byte, offset int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errGone
	}
	return f.ReaderAt.ReadAt(p, offset)
}

// Errors of the source are no errors of the archive.
func TestSourceFails(t *testing.T) {
	archive, _ := pack(t, smallFiles(300))
	for left := 0; ; left++ {
		f := &failing{bytes.NewReader(archive), left}
		x, err := Open(f, int64(len(archive)), Options{})
		if err == nil {
			err = drainEntries(x, x.Entries(), ReadOptions{Buffer: 30000})
		}
		if err == nil {
			if left < 5 {
				t.Errorf("all is read with %d reads", left)
			}
			return
		}
		if !errors.Is(err, errGone) || errors.Is(err, ErrFormat) {
			t.Errorf("after %d reads: %v", left, err)
		}
	}
}

// The archive has become shorter than the caller says.
func TestShortSource(t *testing.T) {
	archive, _ := pack(t, smallFiles(3))
	_, err := Open(bytes.NewReader(archive), int64(len(archive))+100, Options{})
	mustBe(t, err, io.ErrUnexpectedEOF)
}

// Each byte of the contents changed in turn: some other error each time, or
// the same content (the padding of tar is in no file).
func TestFlippedBits(t *testing.T) {
	ps := []part{file("a", []byte("some content, some content")), file("b", bytes.Repeat([]byte{'b'}, 500))}
	archive, s := pack(t, ps)
	for i := range archive {
		b := bytes.Clone(archive)
		b[i] ^= 1 << (i % 8)
		x, err := Open(bytes.NewReader(b), int64(len(b)), Options{Digest: &s.TOCDigest})
		if err != nil {
			continue
		}
		r := x.Reader(x.Entries(), ReadOptions{})
		for _, p := range ps {
			if _, err := r.Next(); err != nil {
				break
			}
			if got, err := io.ReadAll(r); err == nil && !bytes.Equal(got, p.content) {
				t.Errorf("byte %d: other content and no error", i)
			}
		}
	}
}

// The window of a frame is memory that the decoder takes.
func TestWindow(t *testing.T) {
	content := bytes.Repeat([]byte("window "), 1000)
	frame := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 18 << 3, 0x01, 0x00, 0x00} // 256 MiB, then an empty block
	contents := append([]byte("header"), frame...)
	table := fmt.Sprintf(`{"version":1,"entries":[{"type":"reg","name":"w","size":%d,"digest":"%s","offset":6,"endOffset":%d}]}`,
		len(content), formatDigest(Digest{}), len(contents))
	x := open(t, seal(t, contents, []byte(table)))
	mustBe(t, drainEntries(x, x.Entries(), ReadOptions{}), ErrFormat)
}

// members reads a tar archive that is to be packed again.
func members(t testing.TB, name string) (ps []part) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatalf("needs the archives that \"make runtimes\" makes: %v", err)
	}
	defer f.Close()
	d, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := tar.NewReader(d)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return ps
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, part{*h, content})
	}
}

// packFull makes an archive as NewWriter does.
func packFull(t testing.TB, ps []part) ([]byte, Summary) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, zstd.SpeedFastest)
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

// A whole runtime, packed again and read by all ways.
func TestRuntime(t *testing.T) {
	ps := members(t, "../../../build/runtimes/debian-12.0.tar.zst")
	archive, s := packFull(t, ps)
	x, err := Open(bytes.NewReader(archive), s.Size, Options{Digest: &s.TOCDigest})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Compare(untar(t, archive)); err != nil {
		t.Error(err)
	}
	r := x.Reader(x.Entries(), ReadOptions{})
	for _, p := range ps {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.agrees(&p.header); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, p.content) {
			t.Errorf("%s: %d bytes, %v", e.Name, len(got), err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
	t.Logf("%d members, %d bytes of tar, %d packed, table %d", s.Members, s.TarSize, s.Size, s.TOCSize)
}
