package chunked

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// The defaults of Options. A row takes about 400 bytes of a table, 100 stored,
// so that the number of rows is reached first.
const (
	DefaultMaxStored  = 64 << 20
	DefaultMaxTable   = 512 << 20
	DefaultMaxEntries = 1 << 20
)

// Options of Open. Zero limits are the defaults.
type Options struct {
	// Digest is what the table's must be, as somebody trusted has said. Without
	// it nothing of the Index is to be believed before Compare.
	Digest *Digest
	// MaxStored and MaxTable limit the table's bytes, as stored and
	// decompressed. The table as stored is in memory while it is opened; of the
	// rest only a row at a time.
	MaxStored, MaxTable int64
	// MaxEntries limits the rows of the table: members, and chunks of files
	// behind the first. Each takes a few hundred bytes of memory.
	MaxEntries int
}

// An Index is the table of contents of an archive. Its methods may be called
// concurrently.
type Index struct {
	r       io.ReaderAt
	digest  Digest
	entries []*Entry
	size    int64
	read    atomic.Int64

	mu   sync.Mutex
	idle []tools // as many as Readers have been at work at once
}

// Open reads the footer and the table of an archive of so many bytes: two
// ranges at its end. It returns an error that is ErrNotChunked if there is no
// footer, ErrDigest if the table is not the one that is wanted, in which case
// nothing of it was decompressed, ErrTooBig, ErrInexpressible, or ErrFormat. The reader
// stays the caller's and has to live as long as the Index is used. If the
// Index is used concurrently, then so is r.
func Open(r io.ReaderAt, size int64, opt Options) (*Index, error) {
	x := &Index{r: r}
	if opt.MaxStored == 0 {
		opt.MaxStored = DefaultMaxStored
	}
	if opt.MaxTable == 0 {
		opt.MaxTable = DefaultMaxTable
	}
	if opt.MaxEntries == 0 {
		opt.MaxEntries = DefaultMaxEntries
	}
	f, err := readFooter(counted{x}, size)
	if err != nil {
		return nil, err
	}
	switch {
	case f.table.size() > opt.MaxStored:
		return nil, fmt.Errorf("%w: a table of contents of %d bytes", ErrTooBig, f.table.size())
	case f.tableSize > opt.MaxTable:
		return nil, fmt.Errorf("%w: a table of contents of %d bytes, decompressed", ErrTooBig, f.tableSize)
	}
	// An ordinary decoder must not take the table for content.
	stored := make([]byte, frameHeaderSize+f.table.size())
	if err := readAt(counted{x}, stored, f.table.start-frameHeaderSize); err != nil {
		return nil, err
	}
	if !isFrame(stored, f.table.size()) {
		return nil, bad("the table is not in a skippable frame")
	}
	stored = stored[frameHeaderSize:]
	x.digest = sha256.Sum256(stored)
	if opt.Digest != nil && *opt.Digest != x.digest {
		return nil, fmt.Errorf("%w: the table of contents has %s, not %s",
			ErrDigest, hex.EncodeToString(x.digest[:]), hex.EncodeToString(opt.Digest[:]))
	}
	decoder, err := newDecoder(bytes.NewReader(stored))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	b := newBuilder(f.table.start - frameHeaderSize)
	if err := parse(&exact{decoder, f.tableSize}, opt.MaxEntries, b.add); err != nil {
		return nil, err
	}
	x.entries, x.size, err = b.finish()
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Digest is that of the table as stored.
func (x *Index) Digest() Digest { return x.digest }

// Entries are the members, as a rule in the order of the archive. Neither the
// slice nor what it refers to is to be changed.
func (x *Index) Entries() []*Entry { return x.entries }

// Size is the sum of the files' sizes in bytes.
func (x *Index) Size() int64 { return x.size }

// BytesRead is how many bytes of the archive have been read so far, footer and
// table included.
func (x *Index) BytesRead() int64 { return x.read.Load() }

// counted reads the archive and counts.
type counted struct{ x *Index }

func (c counted) ReadAt(b []byte, offset int64) (int, error) {
	n, err := c.x.r.ReadAt(b, offset)
	c.x.read.Add(int64(n))
	return n, err
}

func newDecoder(r io.Reader) (*zstd.Decoder, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxContentWindow), zstd.WithDecoderMaxMemory(maxContentWindow))
	if err != nil {
		return nil, fmt.Errorf("set the decompression up: %w", err)
	}
	return d, nil
}

// exact insists on a size, and calls what the decoder does not like ErrFormat.
type exact struct {
	r    io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.r.Read(p[:min(int64(len(p)), e.left+1)])
	if e.left -= int64(n); e.left < 0 {
		return 0, bad("the table is longer than the footer says")
	}
	switch {
	case err == io.EOF && e.left > 0:
		return n, bad("the table is shorter than the footer says")
	case err != nil && err != io.EOF:
		return n, bad("decompress the table: %s", err)
	}
	return n, err
}
