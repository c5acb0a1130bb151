package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
)

// maxWindow bounds the memory that an archive can make a decoder take:
// "zstd --long=27" and "xz -9" (64 MiB) remain below.
const maxWindow = 128 << 20

var errTrailing = errors.New("something follows the compressed stream")

// decompress looks at how a stream begins, whatever its file is called, and
// decodes zstd, gzip, xz and bzip2. Anything else comes through as it is.
// io.EOF of the result means that src has ended too, with nothing behind the
// compressed stream but what its format allows for.
func decompress(ctx context.Context, src *bufio.Reader) (io.ReadCloser, error) {
	head, _ := src.Peek(10) // an error comes again
	switch {
	case isZstd(head):
		d, err := unzstd(src)
		if err != nil {
			return nil, err
		}
		return &whole{d, src}, nil
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		d, err := gzip.NewReader(src)
		if err != nil {
			return nil, err
		}
		d.Multistream(false)
		return &whole{io.NopCloser(&gunzip{d, src}), src}, nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		d, err := unxz(ctx, src)
		if err != nil {
			return nil, err
		}
		return &whole{d, src}, nil
	case isBzip2(head):
		return &whole{io.NopCloser(bzip2.NewReader(src)), src}, nil
	}
	return io.NopCloser(src), nil
}

// isZstd knows a frame and a skippable frame (RFC 8878, 3.1).
func isZstd(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(head)
	return magic == 0xFD2FB528 || magic&^0xF == 0x184D2A50
}

// isBzip2 looks at the first block's mark too, because a tar archive whose
// first member is called "BZh1" begins with four of the bytes.
func isBzip2(head []byte) bool {
	return len(head) >= 10 && string(head[:3]) == "BZh" && '1' <= head[3] && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
}

// whole insists that the source ends where the decoder does.
type whole struct {
	io.ReadCloser
	src *bufio.Reader
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err == io.EOF {
		if _, more := w.src.Peek(1); more == nil {
			err = errTrailing
		} else {
			err = more
		}
	}
	return n, err
}

// gunzip reads gzip members one after another, and zeros after the last one,
// which gzip(1) ignores: tapes are padded with them.
type gunzip struct {
	member *gzip.Reader
	src    *bufio.Reader
}

func (g *gunzip) Read(p []byte) (int, error) {
	n, err := g.member.Read(p)
	if err != io.EOF {
		return n, err
	}
	next, err := g.src.Peek(1)
	if err != nil {
		return n, err
	}
	if next[0] == 0 {
		return n, g.padding()
	}
	if err := g.member.Reset(g.src); err != nil {
		if err == gzip.ErrHeader {
			err = errTrailing
		}
		return n, noEOF(err)
	}
	g.member.Multistream(false)
	return n, nil
}

// padding reads zeros up to the end.
func (g *gunzip) padding() error {
	for {
		b, err := g.src.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return errTrailing
		}
	}
}

// noEOF makes an end where none should be visible as such.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
