package archive

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"
)

const (
	batchSize   = 1 << 20  // frames are gathered until they decode to this
	frameLimit  = 8 << 20  // the largest frame that is decoded as a whole: pzstd's
	framesAhead = 16 << 20 // what may wait to be read, decoded
	blockLimit  = 128 << 10
	headerLimit = 18
)

var errBlock = errors.New("invalid zstd block")

// frames decodes a zstd stream of many frames, as pzstd, podman and "berth
// pack" write it, several at a time and in their order. From the first frame on
// that is larger than frameLimit it decodes as a stream.
//
// What a frame decodes to, at most, is read off its blocks' headers beforehand
// (RFC 8878, 3.1.1.2), and bounds the memory.
type frames struct {
	src     *bufio.Reader
	decoder *zstd.Decoder
	batches []*batch // in the stream's order; the first may be half read
	waiting int      // the sum of their bounds
	rest    []byte   // what is left of the first, when it is decoded
	free    []*batch // whose buffers are used again
	stream  io.ReadCloser
	prefix  []byte // what was read of the frame that begins the stream, or nil
	err     error  // what comes after the batches
}

// A batch is a few whole frames.
type batch struct {
	packed, plain []byte
	bound         int // bytes that it decodes to, at most
	open          bool
	done          chan error
}

func unzstd(src *bufio.Reader) (*frames, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(frameLimit), zstd.WithDecoderMaxMemory(frameLimit+batchSize))
	if err != nil {
		return nil, err
	}
	return &frames{src: src, decoder: decoder}, nil
}

func (f *frames) Read(p []byte) (int, error) {
	if f.stream != nil {
		return f.stream.Read(p)
	}
	for len(f.rest) == 0 {
		f.release()
		f.start()
		if len(f.batches) == 0 {
			return f.readOn(p)
		}
		b := f.batches[0]
		if err := <-b.done; err != nil {
			f.batches = f.batches[1:]
			f.abandon()
			f.prefix, f.err = nil, noEOF(err)
			return 0, f.err
		}
		b.open, f.rest = true, b.plain
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// release frees the batch that has been read.
func (f *frames) release() {
	if len(f.batches) > 0 && f.batches[0].open {
		b := f.batches[0]
		f.batches = f.batches[1:]
		f.waiting -= b.bound
		f.free = append(f.free, b)
	}
}

// start begins to decode batches: one for each processor, and one to be read
// meanwhile.
func (f *frames) start() {
	for f.err == nil && f.prefix == nil && len(f.batches) <= runtime.GOMAXPROCS(0) && f.waiting < framesAhead {
		b := &batch{done: make(chan error, 1)}
		if n := len(f.free); n > 0 {
			b, f.free = f.free[n-1], f.free[:n-1]
			b.packed, b.bound, b.open = b.packed[:0], 0, false
		}
		f.err = f.gather(b)
		if len(b.packed) == 0 {
			return
		}
		f.batches = append(f.batches, b)
		f.waiting += b.bound
		go func() {
			var err error
			b.plain, err = f.decoder.DecodeAll(b.packed, b.plain[:0])
			b.done <- err
		}()
	}
}

// gather reads frames until they are enough for a batch.
func (f *frames) gather(b *batch) error {
	for b.bound < batchSize && len(b.packed) < batchSize {
		head, err := f.src.Peek(headerLimit)
		if len(head) == 0 {
			return err
		}
		var h zstd.Header
		switch err := h.Decode(head); {
		case !isZstd(head) && len(head) >= 4:
			return errTrailing
		case err != nil:
			return noEOF(err)
		case h.Skippable:
			if _, err := io.CopyN(io.Discard, f.src, int64(h.HeaderSize)+int64(h.SkippableSize)); err != nil {
				return noEOF(err)
			}
			continue
		case h.WindowSize > frameLimit, h.HasFCS && h.FrameContentSize > frameLimit:
			f.prefix = []byte{}
			return nil
		}
		start := len(b.packed)
		bound, err := f.frame(b, &h)
		if err != nil {
			b.packed = b.packed[:start]
			return noEOF(err)
		}
		if bound > frameLimit {
			b.packed, f.prefix = b.packed[:start], b.packed[start:]
			return nil
		}
		b.bound += bound
	}
	return nil
}

// frame appends the frame that comes next, and says how much it decodes to at
// most. It gives up in the middle of one for which that is over frameLimit.
func (f *frames) frame(b *batch, h *zstd.Header) (bound int, err error) {
	start := len(b.packed)
	if err := f.take(b, h.HeaderSize); err != nil {
		return 0, err
	}
	for last := false; !last; {
		if bound > frameLimit || len(b.packed)-start > frameLimit {
			return frameLimit + 1, nil
		}
		head, err := f.src.Peek(3)
		if err != nil {
			return 0, err
		}
		block := uint32(head[0]) | uint32(head[1])<<8 | uint32(head[2])<<16
		last = block&1 != 0
		size := int(block >> 3)
		if size > blockLimit {
			return 0, errBlock
		}
		switch block >> 1 & 3 {
		case 0: // raw
			bound += size
		case 1: // one byte, repeated
			bound += size
			size = 1
		case 2: // compressed
			bound += blockLimit
		default:
			return 0, errBlock
		}
		if err := f.take(b, 3+size); err != nil {
			return 0, err
		}
	}
	if h.HasCheckSum {
		err = f.take(b, 4)
	}
	if h.HasFCS {
		bound = min(bound, int(h.FrameContentSize))
	}
	return bound, err
}

// take appends the next n bytes.
func (f *frames) take(b *batch, n int) error {
	at := len(b.packed)
	b.packed = slices.Grow(b.packed, n)[:at+n]
	_, err := io.ReadFull(f.src, b.packed[at:])
	return err
}

// readOn comes after the last batch: with the end, or with the large frame and
// all that follows it.
func (f *frames) readOn(p []byte) (int, error) {
	if f.prefix == nil {
		return 0, f.err
	}
	d, err := zstd.NewReader(io.MultiReader(bytes.NewReader(f.prefix), f.src), zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderMaxMemory(maxWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(streamThreads()))
	if err != nil {
		f.prefix, f.err = nil, err
		return 0, err
	}
	f.prefix, f.free = nil, nil
	f.stream = d.IOReadCloser()
	return f.stream.Read(p)
}

// streamThreads is how many goroutines decode one large frame. One takes an
// eighth less time of the processor than several take together, and where there
// are two processors, hashing and writing have work enough for the other.
func streamThreads() int {
	const several = 4
	if n := runtime.GOMAXPROCS(0); n >= several {
		return several
	}
	return 1
}

// abandon waits for the decoders.
func (f *frames) abandon() {
	for _, b := range f.batches {
		if !b.open {
			<-b.done
		}
	}
	f.batches, f.rest = nil, nil
}

// Close ends all decoding. It is not safe beside a Read.
func (f *frames) Close() error {
	f.abandon()
	f.decoder.Close()
	if f.stream != nil {
		return f.stream.Close()
	}
	return nil
}
