package archive

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

// pieces compresses text to frames of n bytes each.
func pieces(t testing.TB, text []byte, n int) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	check(t, err)
	var out []byte
	for piece := range slices.Chunk(text, n) {
		out = w.EncodeAll(piece, out)
	}
	return out
}

func words(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = "etaoin shrdlu\n"[r.IntN(14)]
	}
	return b
}

func TestFrames(t *testing.T) {
	text := words(14 << 20)
	small, large := pieces(t, text[:3<<20], 40<<10), pipe(t, text[3<<20:], "zstd", "-c", "-q", "-1")
	skip := []byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc")
	nothing := pieces(t, []byte{}, 1)
	if empty := pipe(t, nil, "zstd", "-c", "-q"); len(nothing) == 0 {
		nothing = empty
	}
	for name, c := range map[string]struct {
		in   []byte
		want []byte
	}{
		"small":                {small, text[:3<<20]},
		"large":                {large, text[3<<20:]},
		"small, large":         {slices.Concat(small, large), text},
		"large, small":         {slices.Concat(large, small), slices.Concat(text[3<<20:], text[:3<<20])},
		"skippable between":    {slices.Concat(skip, small, skip, skip, large, skip), text},
		"empty ones":           {slices.Concat(nothing, small, nothing, nothing), text[:3<<20]},
		"only empty ones":      {bytes.Repeat(nothing, 20000), nil},
		"pzstd":                {pipe(t, text, "pzstd", "-c", "-q"), text},
		"of the limit's size":  {pieces(t, text, frameLimit), text},
		"size not in header":   {pipe(t, text[:5<<20], "zstd", "-c", "-q"), text[:5<<20]},
		"wide window":          {slices.Concat(small, pipe(t, text[3<<20:], "zstd", "-c", "-q", "--long=27")), text},
		"bytes that repeat":    {pieces(t, make([]byte, 11<<20), 5<<20), make([]byte, 11<<20)},
		"what does not shrink": {pieces(t, []byte(noise(5<<20)), 1<<20), []byte(noise(5 << 20))},
	} {
		for how, src := range map[string]io.Reader{"": bytes.NewReader(c.in), " by halves": iotest.HalfReader(bytes.NewReader(c.in))} {
			f, err := unzstd(bufio.NewReader(src))
			check(t, err)
			got, err := io.ReadAll(f)
			if err != nil || !bytes.Equal(got, c.want) {
				t.Errorf("%s%s: %d bytes of %d, %v", name, how, len(got), len(c.want), err)
			}
			check(t, f.Close())
		}
	}
}

// TestFramesDamaged cuts and changes a stream anywhere: what is read before the
// error has to be right, and the error stays.
func TestFramesDamaged(t *testing.T) {
	text := words(3 << 20)
	whole := slices.Concat(pieces(t, text[:1<<20], 30<<10), pipe(t, text[1<<20:], "zstd", "-c", "-q"))
	for i := range 60 {
		in := slices.Clone(whole[:1+rand.IntN(len(whole)-1)])
		if i%2 == 0 {
			in = slices.Clone(whole)
			in[rand.IntN(len(in))] ^= 1 << rand.IntN(8)
		}
		f, err := unzstd(bufio.NewReader(bytes.NewReader(in)))
		check(t, err)
		got, err := io.ReadAll(f)
		if err == nil && len(in) == len(whole) && !bytes.Equal(got, text) {
			t.Errorf("a changed bit went unnoticed")
		}
		if err == nil && len(in) < len(whole) && !bytes.HasPrefix(text, got) {
			t.Errorf("a cut changed what came before it")
		}
		if err != nil {
			n, again := f.Read(make([]byte, 10))
			if n != 0 || again == nil || errors.Is(again, io.EOF) {
				t.Errorf("after %v came %d bytes, %v", err, n, again)
			}
		}
		check(t, f.Close())
	}
}

// TestFramesClosedEarly is for the race detector.
func TestFramesClosedEarly(t *testing.T) {
	in := pieces(t, words(8<<20), 300<<10)
	for range 20 {
		f, err := unzstd(bufio.NewReader(bytes.NewReader(in)))
		check(t, err)
		_, err = io.ReadFull(f, make([]byte, 1+rand.IntN(4<<20)))
		check(t, err)
		check(t, f.Close())
	}
}

// TestFramesMemory has a frame that says less than it holds.
func TestFramesMemory(t *testing.T) {
	bomb := pieces(t, make([]byte, 7<<20), 7<<20)
	f, err := unzstd(bufio.NewReader(strings.NewReader(strings.Repeat(string(bomb), 100))))
	check(t, err)
	defer f.Close()
	n, err := io.Copy(io.Discard, f)
	check(t, err)
	if n != 700<<20 {
		t.Errorf("%d bytes", n)
	}
	kept := 0
	for _, b := range f.free {
		kept += cap(b.packed) + cap(b.plain)
	}
	if kept > 2*framesAhead {
		t.Errorf("%d bytes are kept", kept)
	}
}

func BenchmarkFrames(b *testing.B) {
	text := words(64 << 20)
	for name, in := range map[string][]byte{"pzstd": pipe(b, text, "pzstd", "-c", "-q"), "a frame each": pieces(b, text, 40<<10)} {
		b.Run(name+"/in turn", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				d, err := zstd.NewReader(bytes.NewReader(in), zstd.WithDecoderLowmem(true))
				check(b, err)
				_, err = io.Copy(io.Discard, d)
				check(b, err)
				d.Close()
			}
		})
		b.Run(name+"/at once", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				f, err := unzstd(bufio.NewReaderSize(bytes.NewReader(in), aheadBlock))
				check(b, err)
				_, err = io.Copy(io.Discard, f)
				check(b, err)
				check(b, f.Close())
			}
		})
	}
}
