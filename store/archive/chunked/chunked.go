// Package chunked reads and writes zstd:chunked archives, the format of
// containers/storage (podman, buildah, skopeo).
//
// Such an archive is an ordinary .tar.zst: one zstd stream of many frames. The
// content of each regular file is in frames of its own, and big files are cut
// into chunks, each with its own frame. Behind them come skippable frames
// (RFC 8878, 3.1.2), which every zstd ignores: a table of contents (JSON,
// compressed), in some archives a "tar-split", and the footer, which says where
// they are. Whoever has the table can decode one file and read nothing else.
//
// Integers are little-endian. The footer is a skippable frame with 64 bytes:
//
//	 0  offset of the table's data, behind the 8 bytes of its frame's header
//	 8  its length as stored
//	16  its length decompressed
//	24  the type of the table, 1
//	32  offset, stored and decompressed length of the tar-split, or 0
//	56  "GNUlInUx"
//
// Before containers/storage 1.51 (2023) there were two others, which are read
// but not written: of 40 bytes, and with a tar-split of 56, both with
// "GnUlInUx" at 32. From a tar-split the bytes of the tar stream can be made
// again without its contents. It is neither read nor written here: where the
// table names none, containers/storage reads the archive too, but prefers to
// fetch all of it.
//
// The digest of a table is the SHA-256 of what is stored, which
// containers/storage writes down as the annotation
// io.github.containers.zstd-chunked.manifest-checksum.
//
// A table is as untrusted as the archive. What is read here is checked against
// the table alone, so that the table has to be checked against something else:
// its digest (Options.Digest), or the tar stream itself (Compare).
package chunked

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

const (
	skippableMagic   = 0x184D2A50
	frameHeaderSize  = 8
	footerSize       = 64
	footerMagic      = "GNUlInUx"
	tableType        = 1
	maxSkippable     = 1<<32 - 1
	maxContentWindow = 128 << 20 // as for any archive: "zstd --long=27" remains below
)

var (
	// ErrNotChunked says that there is no footer at the end that we know. The
	// file may well be a .tar.zst, to be read from its beginning.
	ErrNotChunked = errors.New("not a zstd:chunked archive")
	// ErrFormat says that the table is malformed, contradicts itself or the
	// archive, or that a member's content is not what can be decoded.
	ErrFormat = errors.New("bad table of contents")
	// ErrDigest says that the table, or the content of a member, has not the
	// digest that it should have.
	ErrDigest = errors.New("digest mismatch")
	// ErrTooBig says that a limit of Options is exceeded.
	ErrTooBig = errors.New("too big")
	// ErrInexpressible says that a name, link target or attribute is not UTF-8,
	// which is all that JSON can express, or that a time has no four digits for
	// the year. containers/storage replaces such bytes in the table, and they
	// are lost. The tar stream still has them.
	ErrInexpressible = errors.New("not expressible in a table of contents")
)

// MemberError says which member is refused.
type MemberError struct {
	Member string // as the table or the tar stream names it
	Err    error
}

// Error quotes the name, which is untrusted.
func (e *MemberError) Error() string {
	return fmt.Sprintf("member %s: %s", strconv.Quote(e.Member), e.Err)
}

func (e *MemberError) Unwrap() error { return e.Err }

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// A span is a range of the archive, [start, end).
type span struct{ start, end int64 }

func (s span) size() int64 { return s.end - s.start }

func (s span) contains(t span) bool { return s.start <= t.start && t.end <= s.end }

// A footer says where the table is.
type footer struct {
	table     span  // its data, without the frame's header
	tableSize int64 // decompressed
}

// appendFrame appends a skippable frame.
func appendFrame(b, data []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// appendFooter appends the footer's frame.
func appendFooter(b []byte, f footer) []byte {
	var data [footerSize]byte
	binary.LittleEndian.PutUint64(data[0:], uint64(f.table.start))
	binary.LittleEndian.PutUint64(data[8:], uint64(f.table.size()))
	binary.LittleEndian.PutUint64(data[16:], uint64(f.tableSize))
	binary.LittleEndian.PutUint64(data[24:], tableType)
	copy(data[footerSize-len(footerMagic):], footerMagic)
	return appendFrame(b, data[:])
}

// isFrame tells whether b begins with a skippable frame of that much data.
func isFrame(b []byte, size int64) bool {
	return len(b) >= frameHeaderSize && binary.LittleEndian.Uint32(b) == skippableMagic &&
		int64(binary.LittleEndian.Uint32(b[4:])) == size
}

// footers are the layouts that there have been: how many bytes, and where which
// mark is.
var footers = []struct {
	size, at int
	mark     string
}{
	{footerSize, 56, footerMagic},
	{56, 32, "GnUlInUx"},
	{40, 32, "GnUlInUx"},
}

// readFooter reads the end of an archive of so many bytes.
func readFooter(r io.ReaderAt, size int64) (f footer, err error) {
	tail := make([]byte, max(0, min(size, frameHeaderSize+footerSize)))
	if err := readAt(r, tail, size-int64(len(tail))); err != nil {
		return f, err
	}
	for _, known := range footers {
		start := len(tail) - frameHeaderSize - known.size
		if start < 0 || !isFrame(tail[start:], int64(known.size)) {
			continue
		}
		data := tail[start+frameHeaderSize:]
		if string(data[known.at:known.at+len(known.mark)]) == known.mark {
			return parseFooter(data, size-int64(len(tail)-start))
		}
	}
	return f, ErrNotChunked
}

// parseFooter reads the fields of a footer whose frame starts at limit.
func parseFooter(data []byte, limit int64) (f footer, err error) {
	start, stored := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:])
	size, kind := binary.LittleEndian.Uint64(data[16:]), binary.LittleEndian.Uint64(data[24:])
	switch end := uint64(limit); {
	case kind != tableType:
		return f, fmt.Errorf("%w: a table of type %d", ErrNotChunked, kind)
	case start < frameHeaderSize || start > end || stored > end-start:
		return f, bad("the footer has a table of %d bytes at %d", stored, start)
	case size > math.MaxInt64:
		return f, bad("the footer has a table of %d bytes decompressed", size)
	}
	return footer{span{int64(start), int64(start + stored)}, int64(size)}, nil
}

// readAt reads all of b.
func readAt(r io.ReaderAt, b []byte, offset int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), offset, err)
}
