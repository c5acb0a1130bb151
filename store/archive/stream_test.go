package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

// noise does not compress, so that flipped bits hit content.
func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

func packed(t testing.TB) map[string][]byte {
	t.Helper()
	archive := pack(t, dir("d", 0o755), file("d/a", noise(70000)), file("d/b", strings.Repeat("text ", 5000)), link("c", "d"))
	all := map[string][]byte{}
	for name, command := range compressors() {
		all[name] = pipe(t, archive, command...)
	}
	return all
}

func TestTruncated(t *testing.T) {
	for name, whole := range packed(t) {
		// The end-of-archive mark of plain tar is two blocks of zeros.
		margin := 1
		if name == "plain" {
			margin = 1024 + 1
		}
		cuts := []int{0, 1, 5, 100, 511, 512, 513, 1024, len(whole) / 2, len(whole) - margin}
		for i := 0; i < 40; i++ {
			cuts = append(cuts, rand.IntN(len(whole)-margin))
		}
		for _, n := range cuts {
			_, _, err := unpack(t, whole[:n], Options{})
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%s: %d bytes of %d: %v", name, n, len(whole), err)
			}
		}
	}
}

// TestCutBetweenMembers has an archive that lacks nothing but its end.
func TestCutBetweenMembers(t *testing.T) {
	a := pack(t, file("a", strings.Repeat("\x00", 5000)))
	for n := len(a) - 1024; n < len(a)-512; n += 100 {
		_, _, err := unpack(t, a[:n], Options{})
		wantError(t, err, ErrFormat, "")
	}
	_, _, err := unpack(t, a[:len(a)-512], Options{})
	check(t, err) // a lone block of zeros will do, as for tar
}

// TestFlipped flips single bits. What has checksums must notice; plain tar has
// some for headers only, but must never do anything else than fail or unpack.
func TestFlipped(t *testing.T) {
	for name, whole := range packed(t) {
		undetected := 0
		for range 60 {
			b := slices.Clone(whole)
			b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
			_, _, err := unpack(t, b, Options{})
			if err == nil {
				undetected++
				continue
			}
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsafe) && !errors.Is(err, ErrTooBig) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// gzip's and xz's headers have bits that mean nothing.
		if name != "plain" && undetected > 3 {
			t.Errorf("%s: %d of 60 flips went unnoticed", name, undetected)
		}
	}
}

func TestTrailing(t *testing.T) {
	for name, whole := range packed(t) {
		for what, tail := range map[string]string{"a byte": "x", "text": "garbage garbage garbage garbage", "late": strings.Repeat("\x00", 4096) + "x"} {
			_, _, err := unpack(t, append(slices.Clone(whole), tail...), Options{})
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// TestPadding has what the formats allow for behind the stream, and streams in
// several pieces.
func TestPadding(t *testing.T) {
	archive := pack(t, file("a", noise(5000)), file("b", "b"))
	zeros := make([]byte, 10240)
	for name, b := range map[string][]byte{
		"plain":                slices.Concat(archive, zeros),
		"inside gzip":          pipe(t, slices.Concat(archive, zeros), "gzip", "-c"),
		"gzip":                 slices.Concat(pipe(t, archive, "gzip", "-c"), zeros),
		"gzip members":         slices.Concat(pipe(t, archive[:3000], "gzip", "-c"), pipe(t, archive[3000:], "gzip", "-c")),
		"gzip members, padded": slices.Concat(pipe(t, archive[:3000], "gzip", "-c"), pipe(t, archive[3000:], "gzip", "-c"), zeros),
		"xz":                   slices.Concat(pipe(t, archive, "xz", "-c"), zeros),
		"xz streams":           slices.Concat(pipe(t, archive[:3000], "xz", "-c"), zeros[:8], pipe(t, archive[3000:], "xz", "-c")),
		"bzip2 streams":        slices.Concat(pipe(t, archive[:3000], "bzip2", "-c"), pipe(t, archive[3000:], "bzip2", "-c")),
		"zstd frames":          slices.Concat(pipe(t, archive[:3000], "zstd", "-c"), pipe(t, archive[3000:], "zstd", "-c")),
		"zstd, skippable": slices.Concat([]byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"), pipe(t, archive, "zstd", "-c"),
			[]byte("\x50\x2a\x4d\x18\x00\x00\x00\x00")),
	} {
		tree, _, err := unpack(t, b, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(tree.Entries) != 3 || tree.SourceSize != int64(len(b)) {
			t.Errorf("%s: %d entries, %d bytes", name, len(tree.Entries), tree.SourceSize)
		}
	}
	_, _, err := unpack(t, slices.Concat(pipe(t, archive, "xz", "-c"), zeros[:3]), Options{})
	wantError(t, err, ErrFormat, "")
	_, _, err = unpack(t, slices.Concat(pipe(t, archive, "gzip", "-c"), zeros, []byte("x")), Options{})
	wantError(t, err, ErrFormat, "")
}

func TestNotAnArchive(t *testing.T) {
	for name, b := range map[string]string{
		"text":          strings.Repeat("This is no archive.\n", 100),
		"empty":         "",
		"zeros":         strings.Repeat("\x00", 10240),
		"gzip of text":  string(pipe(t, []byte(strings.Repeat("text", 1000)), "gzip", "-c")),
		"gzip of empty": string(pipe(t, nil, "gzip", "-c")),
		"gzip of gzip":  string(pipe(t, pipe(t, pack(t, file("a", "")), "gzip", "-c"), "gzip", "-c")),
		"a gzip header": "\x1f\x8b\x08",
		"a zstd header": "\x28\xb5\x2f\xfd",
		"an xz header":  "\xfd7zXZ\x00",
		"bzip2 header":  "BZh91AY&SY",
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpack(t, []byte(b), Options{})
			wantError(t, err, ErrFormat, "")
		})
	}
	_, _, err := unpack(t, pack(t, file("BZh1", "x")), Options{})
	check(t, err)
}

func TestBombs(t *testing.T) {
	bomb := pack(t, file("zeros", strings.Repeat("\x00", 48<<20)))
	for name, command := range map[string][]string{"gzip": {"gzip", "-1c"}, "zstd": {"zstd", "-c"}, "xz": {"xz", "-0c"}} {
		b := pipe(t, bomb, command...)
		_, at, err := unpack(t, b, Options{MaxSize: 16 << 20})
		wantError(t, err, ErrTooBig, "zeros")
		if s := du(t, at); s > 1<<20 {
			t.Errorf("%s: %d bytes were written", name, s)
		}
	}

	// 1 TiB of holes, in a kilobyte.
	hole := filepath.Join(t.TempDir(), "hole")
	check(t, os.WriteFile(hole, nil, 0o644))
	check(t, os.Truncate(hole, 1<<40))
	for _, format := range []string{"gnu", "pax"} {
		b := pipe(t, nil, "tar", "-c", "--sparse", "--format="+format, "-C", filepath.Dir(hole), "hole")
		_, _, err := unpack(t, b, Options{MaxSize: 1 << 30})
		wantError(t, err, ErrTooBig, "hole")
	}
	_, err := Copy(t.Context(), filepath.Dir(hole), scratch(t), Options{MaxSize: 1 << 30})
	wantError(t, err, ErrTooBig, "hole")

	padded := pipe(t, append(pack(t, file("a", "")), make([]byte, maxPadding+1)...), "zstd", "-c")
	_, _, err = unpack(t, padded, Options{})
	wantError(t, err, ErrTooBig, "")

	window := pipe(t, append(pack(t, file("a", "")), make([]byte, 10240)...), "zstd", "-c", "--ultra", "--long=31")
	_, _, err = unpack(t, window, Options{})
	wantError(t, err, ErrFormat, "")
}

func du(t testing.TB, at string) (size int64) {
	t.Helper()
	check(t, filepath.Walk(at, func(p string, i os.FileInfo, err error) error {
		if err == nil && i.Mode().IsRegular() {
			size += i.Size()
		}
		return err
	}))
	return size
}

func TestSourceError(t *testing.T) {
	mine := fmt.Errorf("the digest differs (%w)", unix.EBADMSG)
	for name, whole := range packed(t) {
		for _, n := range []int{0, 3, 10, 600, len(whole) / 2, len(whole) - 1, len(whole)} {
			r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(mine))
			_, err := Unpack(t.Context(), r, scratch(t), Options{})
			if !errors.Is(err, mine) || !errors.Is(err, unix.EBADMSG) {
				t.Errorf("%s after %d: %v", name, n, err)
			}
			wantError(t, err, nil, "")
		}
		// The error in the place of the end, with the last bytes.
		_, err := Unpack(t.Context(), &together{whole, mine}, scratch(t), Options{})
		if !errors.Is(err, mine) {
			t.Errorf("%s: %v", name, err)
		}
		// io.ErrUnexpectedEOF of the reader is the network's, not the archive's.
		r := io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
		_, err = Unpack(t.Context(), r, scratch(t), Options{})
		wantError(t, err, nil, "")
	}
}

type together struct {
	b   []byte
	err error
}

func (r *together) Read(p []byte) (int, error) {
	n := copy(p, r.b)
	if r.b = r.b[n:]; len(r.b) == 0 {
		return n, r.err
	}
	return n, nil
}

func TestStrangeReaders(t *testing.T) {
	for name, whole := range packed(t) {
		for _, r := range []io.Reader{
			iotest.OneByteReader(bytes.NewReader(whole)), iotest.DataErrReader(bytes.NewReader(whole)), iotest.HalfReader(bytes.NewReader(whole)),
		} {
			if _, err := Unpack(t.Context(), r, scratch(t), Options{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	_, err := Unpack(t.Context(), &together{nil, nil}, scratch(t), Options{})
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that never reads: %v", err)
	}
}

func TestRead(t *testing.T) {
	for name, whole := range packed(t) {
		var got int64
		_, _, err := unpack(t, whole, Options{Read: func(n int64) { got += n }})
		if err != nil || got != int64(len(whole)) {
			t.Errorf("%s: %d of %d bytes (%v)", name, got, len(whole), err)
		}
	}
}

// endless is an archive of ever more members, slowly.
func endless(ctx context.Context) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		out := tar.NewWriter(w)
		for i := 0; ; i++ {
			if out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Size: 10000}) != nil {
				return
			}
			if _, err := out.Write(make([]byte, 10000)); err != nil {
				return
			}
		}
	}()
	return r
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := Unpack(ctx, endless(ctx), scratch(t), Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("unpack: %v", err)
	}
	wantError(t, err, nil, "")

	// The cause comes through, and a reader that knows nothing of the context
	// does not go on.
	cause := errors.New("no more time")
	ctx, stop := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { stop(cause) })
	background, end := context.WithCancel(context.Background())
	defer end()
	begin := time.Now()
	_, err = Unpack(ctx, endless(background), scratch(t), Options{})
	if !errors.Is(err, cause) || time.Since(begin) > 5*time.Second {
		t.Errorf("unpack: %v after %v", err, time.Since(begin))
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(gone, bytes.NewReader(pack(t, file("a", ""))), scratch(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("unpack: %v", err)
	}
	src := scratch(t).Name()
	check(t, os.WriteFile(filepath.Join(src, "hole"), nil, 0o644))
	check(t, os.Truncate(filepath.Join(src, "hole"), 1<<40))
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := Copy(ctx, src, scratch(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("copy: %v", err)
	}
}

func TestNothingKeepsRunning(t *testing.T) {
	big := pack(t, file("a", noise(30<<20)), file("b", noise(30<<20)))
	stuck := pipe(t, big, "zstd", "-c")
	before := runtime.NumGoroutine()
	fds := openFiles(t)
	for _, whole := range packed(t) {
		for _, n := range []int{len(whole), len(whole) / 2, 20} {
			unpack(t, whole[:n], Options{LockFile: ".ref"})
			unpack(t, whole[:n], Options{MaxSize: 1})
			unpack(t, whole[:n], Options{LockFile: "d"})
		}
	}
	unpack(t, stuck, Options{MaxSize: 1})
	for range 100 {
		if runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines more", n-before)
	}
	// Those of scratch stay open until the end of the test.
	if n := openFiles(t) - fds; n != 3*3*len(compressors())+1 {
		t.Errorf("%d descriptors more", n)
	}
}

func openFiles(t testing.TB) int {
	names, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(names)
}

func TestFullDisk(t *testing.T) {
	at := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", at).CombinedOutput(); err != nil {
		t.Fatalf("needs to mount a tmpfs: %v\n%s", err, out)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	many := []member{}
	for i := range 100 {
		many = append(many, file(fmt.Sprint(i), ""))
	}
	for name, members := range map[string][]member{"space": {file("a", noise(2<<20))}, "inodes": many} {
		p := filepath.Join(at, name)
		check(t, os.Mkdir(p, 0o755))
		d, err := os.Open(p)
		check(t, err)
		_, err = Unpack(t.Context(), bytes.NewReader(pack(t, members...)), d, Options{})
		d.Close()
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		wantError(t, err, nil, "")
		check(t, os.RemoveAll(p))
	}
}

func TestDestinationInUse(t *testing.T) {
	d := scratch(t)
	check(t, os.Mkdir(filepath.Join(d.Name(), workName), 0o755))
	if _, err := Unpack(t.Context(), bytes.NewReader(pack(t, file("a", ""))), d, Options{}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v", err)
	}
	gone := scratch(t)
	gone.Close()
	if _, err := Unpack(t.Context(), bytes.NewReader(pack(t, file("a", ""))), gone, Options{}); err == nil {
		t.Error("a closed destination is accepted")
	}
}

// TestDecoderStopsEarly has a decoder that ends before its source does.
func TestDecoderStopsEarly(t *testing.T) {
	src := bufio.NewReader(strings.NewReader("12345"))
	_, err := io.ReadAll(&whole{io.NopCloser(io.LimitReader(src, 4)), src})
	if !errors.Is(err, errTrailing) {
		t.Errorf("%v", err)
	}
}

// TestSourceIsLeftAlone sees to it that nothing reads the source, or reports
// on it, after the return.
func TestSourceIsLeftAlone(t *testing.T) {
	var calls atomic.Int64
	r := &slow{r: strings.NewReader("no archive" + noise(10<<20))}
	_, err := Unpack(t.Context(), r, scratch(t), Options{Read: func(int64) { calls.Add(1) }})
	busy, before := r.busy.Load(), calls.Load()
	time.Sleep(100 * time.Millisecond)
	if err == nil || busy || calls.Load() != before {
		t.Errorf("error %v, still reading %v, %d calls too late", err, busy, calls.Load()-before)
	}
}

type slow struct {
	r    io.Reader
	busy atomic.Bool
}

func (s *slow) Read(p []byte) (int, error) {
	s.busy.Store(true)
	defer s.busy.Store(false)
	time.Sleep(20 * time.Millisecond)
	return s.r.Read(p[:min(len(p), 256<<10)])
}
