package chunked

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// The defaults of ReadOptions.
const (
	DefaultGap    = 64 << 10
	DefaultBuffer = 1 << 20
)

// ReadOptions say how the archive is read.
type ReadOptions struct {
	// Gap is the most bytes between two contents for which they are read in
	// one, with what is between them. It pays where a request costs more than
	// they do. 0 is the default, less is none.
	Gap int64
	// Buffer is the most bytes that are asked for at once, and about the memory
	// that a Reader takes beside what decompression needs. 0 is the default.
	Buffer int
}

func (o ReadOptions) filled() ReadOptions {
	switch {
	case o.Gap == 0:
		o.Gap = DefaultGap
	case o.Gap < 0:
		o.Gap = 0
	}
	if o.Buffer <= 0 {
		o.Buffer = DefaultBuffer
	}
	return o
}

// A Range is a part of the archive, in bytes.
type Range struct{ Offset, Size int64 }

// Ranges are what a Reader of these entries reads at most, in its order.
func (x *Index) Ranges(entries []*Entry, opt ReadOptions) []Range {
	opt = opt.filled()
	var ranges []Range
	var at span // what is left of the last range
	for i, e := range entries {
		for j := range e.chunks {
			c := &e.chunks[j]
			if c.zeros {
				continue
			}
			if !at.contains(c.stored) {
				at = together(entries[i:], j, opt.Gap)
				ranges = append(ranges, Range{at.start, at.size()})
			}
			at.start = c.stored.end
		}
	}
	return ranges
}

// together is the span that begins with a chunk of the first entry and goes on
// for as long as what comes is near.
func together(entries []*Entry, first int, gap int64) span {
	s := entries[0].chunks[first].stored
	for _, e := range entries {
		for j := first; j < len(e.chunks); j++ {
			next := e.chunks[j].stored
			switch {
			case e.chunks[j].zeros || next == s:
			case next.start < s.end || next.start-s.end > gap:
				return s
			default:
				s.end = next.end
			}
		}
		first = 0
	}
	return s
}

// A Reader reads the contents of entries one after another, as tar.Reader does
// those of members: Next, then Read up to io.EOF. What is near in the archive is
// read in one, so that entries are best given in the order of Entries. It is for
// one goroutine; an Index can have many, and none needs to be closed.
type Reader struct {
	x       *Index
	opt     ReadOptions
	entries []*Entry // from the current one on
	begun   bool
	err     error

	chunk  int   // of the current entry
	left   int64 // to come of the chunk
	inside bool  // a chunk

	largest int64 // chunk so far, in bytes
	source  source
	tools   // from the first chunk to the last
}

// tools are what a Reader works with and leaves to the next one.
type tools struct {
	decoder *zstd.Decoder
	whole   hash.Hash // of the entry
	part    hash.Hash // of the chunk, if that is less
	buffer  []byte    // of the source
}

// Reader reads these entries, which are of this Index.
func (x *Index) Reader(entries []*Entry, opt ReadOptions) *Reader {
	opt = opt.filled()
	return &Reader{x: x, opt: opt, entries: entries, source: source{r: counted{x}, limit: opt.Buffer}}
}

// Content reads one file; anything else has none. See Reader.Read.
func (x *Index) Content(e *Entry) (io.Reader, error) {
	r := x.Reader([]*Entry{e}, ReadOptions{Gap: -1})
	_, err := r.Next()
	return r, err
}

// Next goes to the next entry, or the first, and returns io.EOF behind the last.
// What has not been read of the entry before is skipped and not checked.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.begun {
		r.entries = r.entries[1:]
	}
	if r.begun = len(r.entries) > 0; !r.begun {
		r.release()
		return nil, io.EOF
	}
	r.chunk, r.inside = 0, false
	return r.entries[0], nil
}

// Read reads the current entry. Content that is not what the table says is a
// *MemberError that is ErrFormat or ErrDigest, which comes in place of the last
// bytes, so that nobody can get all of a file and miss it. Other errors are
// those of the source. All are final.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if !r.begun || r.chunk == len(r.entries[0].chunks) {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.read(p)
	if err != nil {
		r.err = &MemberError{r.entries[0].Name, err}
		r.release()
		return 0, r.err
	}
	return n, nil
}

func (r *Reader) read(p []byte) (n int, err error) {
	e := r.entries[0]
	c := &e.chunks[r.chunk]
	if !r.inside {
		if err := r.open(c); err != nil {
			return 0, err
		}
	}
	p = p[:min(int64(len(p)), r.left)]
	if c.zeros {
		clear(p)
		n = len(p)
	} else if n, err = r.decode(p); err != nil {
		return 0, err
	}
	r.whole.Write(p[:n])
	if c.isPart(e) {
		r.part.Write(p[:n])
	}
	if r.left -= int64(n); r.left > 0 {
		return n, nil
	}
	return n, r.end(e, c)
}

// isPart tells whether a chunk's digest is another than the whole file's.
func (c *chunk) isPart(e *Entry) bool { return c.checked && c.size < e.Size }

func (r *Reader) open(c *chunk) error {
	if r.decoder == nil {
		if err := r.equip(); err != nil {
			return err
		}
	}
	if r.chunk == 0 {
		r.whole.Reset()
	}
	r.inside, r.left, r.largest = true, c.size, max(r.largest, c.size)
	r.part.Reset()
	if c.zeros {
		return nil
	}
	if !r.source.span.contains(c.stored) {
		r.source.span = together(r.entries, r.chunk, r.opt.Gap)
	}
	r.source.span.start = c.stored.end
	r.source.chunk = c.stored
	if err := r.decoder.Reset(&r.source); err != nil {
		return fmt.Errorf("set the decompression up: %w", err)
	}
	return nil
}

// equip takes the tools that another Reader has left, or new ones.
func (r *Reader) equip() error {
	r.x.mu.Lock()
	defer r.x.mu.Unlock()
	if last := len(r.x.idle) - 1; last >= 0 {
		r.tools, r.x.idle = r.x.idle[last], r.x.idle[:last]
	} else {
		d, err := newDecoder(nil)
		if err != nil {
			return err
		}
		r.tools = tools{decoder: d, whole: sha256.New(), part: sha256.New()}
	}
	r.source.buffer = r.buffer[:0]
	return nil
}

// decode reads at least one byte.
func (r *Reader) decode(p []byte) (int, error) {
	n, err := io.ReadAtLeast(r.decoder, p, 1)
	switch {
	case err == nil:
		return n, nil
	case r.source.err != nil:
		return 0, r.source.err
	case err == io.EOF:
		return 0, bad("there are %d bytes fewer than the table says", r.left)
	}
	return 0, bad("decompress: %s", err)
}

// end ends a chunk, and with the last one the file.
func (r *Reader) end(e *Entry, c *chunk) error {
	if !c.zeros {
		var more [1]byte
		n, err := io.ReadFull(r.decoder, more[:])
		switch {
		case n > 0:
			return bad("there are more bytes than the table says")
		case r.source.err != nil:
			return r.source.err
		case err != io.EOF:
			return bad("decompress: %s", err)
		}
		if c.checked {
			sum := r.whole
			if c.isPart(e) {
				sum = r.part
			}
			if got := Digest(sum.Sum(nil)); got != c.digest {
				return fmt.Errorf("chunk %s: %w", strconv.Itoa(r.chunk), mismatch(got, c.digest))
			}
		}
	}
	r.inside = false
	if r.chunk++; r.chunk < len(e.chunks) {
		return nil
	}
	if got := Digest(r.whole.Sum(nil)); got != e.Digest {
		return mismatch(got, e.Digest)
	}
	if len(r.entries) == 1 {
		r.release()
	}
	return nil
}

// frugal is the largest chunk, in bytes, whose decoder is worth keeping: it
// keeps as much memory.
const frugal = 1 << 20

// release leaves the tools to the next Reader.
func (r *Reader) release() {
	if r.decoder == nil {
		return
	}
	if r.largest <= frugal && r.decoder.Reset(nil) == nil {
		r.buffer = r.source.buffer
		r.x.mu.Lock()
		r.x.idle = append(r.x.idle, r.tools)
		r.x.mu.Unlock()
	}
	r.tools, r.source.buffer, r.largest = tools{}, nil, 0
}

func mismatch(got, want Digest) error {
	return fmt.Errorf("%w: %s, not %s", ErrDigest, hex.EncodeToString(got[:]), hex.EncodeToString(want[:]))
}

// A source reads chunks for the decoder, several at once where they are near.
type source struct {
	r     io.ReaderAt
	limit int
	span  span // that may be read at once, from the next chunk on
	chunk span // what is left of the current one
	err   error

	buffer []byte
	at     int64 // where buffer is in the archive
}

func (s *source) Read(p []byte) (int, error) {
	if s.chunk.size() == 0 {
		return 0, io.EOF
	}
	if s.chunk.start < s.at || s.chunk.start >= s.at+int64(len(s.buffer)) {
		if s.err = s.fill(); s.err != nil {
			return 0, s.err
		}
	}
	b := s.buffer[s.chunk.start-s.at:]
	n := copy(p, b[:min(int64(len(b)), s.chunk.size())])
	s.chunk.start += int64(n)
	return n, nil
}

func (s *source) fill() error {
	n := int(min(int64(s.limit), s.span.end-s.chunk.start))
	if n > cap(s.buffer) {
		s.buffer = make([]byte, n)
	}
	s.buffer, s.at = s.buffer[:n], s.chunk.start
	err := readAt(s.r, s.buffer, s.at)
	if err != nil {
		s.buffer = s.buffer[:0]
	}
	return err
}
