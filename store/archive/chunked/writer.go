package chunked

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// ChunkSize is what a file is cut into, in bytes. Whole files are what an
// unchanged member is found by, so that chunks need not follow the content:
// they serve to compress and decompress in parallel and in little memory, and
// to ask for part of a big file again. Smaller ones compress worse: at 4 MiB
// the loss is under one per cent, because that is how far back the levels
// below zstd.SpeedBetterCompression look anyway.
const ChunkSize = 4 << 20

// How many frames may be under way, and how many chunks' worth of bytes for each
// processor: a big chunk must not keep the others idle while many small files
// come behind it.
const (
	maxPending       = 512
	maxPendingChunks = 2
)

// A Writer writes an archive. Its methods follow tar.Writer's, and what the
// archive decompresses to is what tar.Writer would have written. The same
// members and level make the same bytes, however many processors there are.
// It is for one goroutine, compresses in as many as there are processors, and
// can be abandoned: the others end by themselves.
type Writer struct {
	out       io.Writer
	tar       *tar.Writer
	encoder   *zstd.Encoder
	level     zstd.EncoderLevel
	workers   int
	err       error
	chunkSize int

	frame   []byte // not yet compressed
	inside  bool   // frame is content
	left    int64  // bytes of content to come
	content hash.Hash
	pending []*job
	bytes   int // of pending
	written int64
	plain   int64
	rows    []*member
	names   map[string]struct{}
}

// A member is what the table says of one.
type member struct {
	row    row
	chunks []*job
}

// A job is one frame.
type job struct {
	plain, packed []byte
	size          int
	stored        span
	zeros         bool
	digest        Digest
	done          chan struct{}
}

// Summary is what became of an archive.
type Summary struct {
	TOCDigest Digest // of the table as stored
	Size      int64  // bytes of the archive
	TOCSize   int64  // bytes of the table as stored
	TarSize   int64  // bytes of the tar stream
	Members   int
}

// NewWriter starts an archive. The caller closes the Writer, and then w.
func NewWriter(w io.Writer, level zstd.EncoderLevel) (*Writer, error) {
	return newWriter(w, level, runtime.GOMAXPROCS(0), ChunkSize)
}

func newWriter(out io.Writer, level zstd.EncoderLevel, workers, chunkSize int) (*Writer, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(workers))
	if err != nil {
		return nil, fmt.Errorf("set the compression up: %w", err)
	}
	w := &Writer{
		out: out, encoder: encoder, level: level, workers: workers, chunkSize: chunkSize,
		content: sha256.New(), names: make(map[string]struct{}),
	}
	w.tar = tar.NewWriter(sink{w})
	return w, nil
}

// WriteHeader begins a member. It returns an error that is ErrInexpressible for
// what a table cannot express, and one that is ErrFormat for a type of member
// that the format does not know and for a name that there was before. After any
// error the archive is of no use.
func (w *Writer) WriteHeader(h *tar.Header) error {
	if w.err == nil {
		w.err = w.header(h)
	}
	return w.err
}

func (w *Writer) header(h *tar.Header) error {
	// The padding belongs to the member before, and what comes now to this one.
	if err := w.tar.Flush(); err != nil {
		return fmt.Errorf("end a member: %w", err)
	}
	if len(w.frame) >= w.chunkSize {
		if _, err := w.cut(); err != nil {
			return err
		}
	}
	start := len(w.frame)
	if err := w.tar.WriteHeader(h); err != nil {
		return &MemberError{h.Name, fmt.Errorf("write the header: %w", err)}
	}
	// The table says what a reader of the tar stream sees: tar.Writer rounds
	// times, for one.
	seen, err := tar.NewReader(bytes.NewReader(w.frame[start:])).Next()
	if err != nil {
		return &MemberError{h.Name, fmt.Errorf("read the header back: %w", err)}
	}
	m, err := w.member(seen)
	if err != nil {
		return &MemberError{seen.Name, err}
	}
	w.rows = append(w.rows, m)
	w.left = m.row.Size
	w.content.Reset()
	return nil
}

func (w *Writer) member(h *tar.Header) (*member, error) {
	name, ok := typeNames[h.Typeflag]
	if !ok {
		return nil, bad("members of type %q are not known", h.Typeflag)
	}
	key := path.Clean(h.Name)
	if _, twice := w.names[key]; twice {
		return nil, bad("the name occurs twice")
	}
	w.names[key] = struct{}{}
	attrs := xattrs(h)
	if !expressible(h.Name) || !expressible(h.Linkname) {
		return nil, ErrInexpressible
	}
	for attr := range attrs {
		if !expressible(attr) {
			return nil, fmt.Errorf("extended attribute: %w", ErrInexpressible)
		}
	}
	for _, t := range []time.Time{h.ModTime, h.AccessTime, h.ChangeTime} {
		if y := t.UTC().Year(); y < 0 || y > 9999 {
			return nil, fmt.Errorf("a time in the year %d: %w", y, ErrInexpressible)
		}
	}
	r := row{
		Type: name, Name: h.Name, Linkname: h.Linkname, Mode: h.Mode, UID: h.Uid, GID: h.Gid,
		ModTime: timeOf(h.ModTime), AccessTime: timeOf(h.AccessTime), ChangeTime: timeOf(h.ChangeTime),
		Devmajor: h.Devmajor, Devminor: h.Devminor, Xattrs: encodeXattrs(attrs),
	}
	if h.Typeflag == tar.TypeReg {
		r.Size = h.Size
	}
	return &member{row: r}, nil
}

// expressible tells whether a string survives JSON. The replacement character
// itself does, but nobody can tell it from what was lost.
func expressible(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, utf8.RuneError)
}

// Write writes content of the member. As with tar.Writer, more than the header
// said is tar.ErrWriteTooLong, and less is an error of what comes next.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

func (w *Writer) write(p []byte) (written int, err error) {
	if w.left > 0 && !w.inside && len(p) > 0 {
		if _, err := w.cut(); err != nil {
			return 0, err
		}
		w.inside = true
	}
	for len(p) > 0 && w.left > 0 {
		if w.frame == nil {
			w.frame = make([]byte, 0, min(w.left, int64(w.chunkSize)))
		}
		piece := p[:min(int64(len(p)), w.left, int64(w.chunkSize-len(w.frame)))]
		if _, err := w.tar.Write(piece); err != nil {
			return written, err
		}
		w.content.Write(piece)
		written += len(piece)
		p = p[len(piece):]
		if w.left -= int64(len(piece)); w.left == 0 || len(w.frame) == w.chunkSize {
			if err := w.cutContent(); err != nil {
				return written, err
			}
		}
	}
	if len(p) > 0 {
		_, err = w.tar.Write(p) // which knows what is wrong
	}
	return written, err
}

// cutContent ends a chunk.
func (w *Writer) cutContent() error {
	m := w.rows[len(w.rows)-1]
	j, err := w.cut()
	if err != nil {
		return err
	}
	m.chunks = append(m.chunks, j)
	if w.left == 0 {
		w.inside = false
		m.row.Digest = formatDigest(Digest(w.content.Sum(nil)))
	}
	return nil
}

// A sink takes what tar.Writer writes.
type sink struct{ w *Writer }

func (s sink) Write(p []byte) (int, error) {
	s.w.frame = append(s.w.frame, p...)
	return len(p), nil
}

// cut ends a frame and has it compressed.
func (w *Writer) cut() (*job, error) {
	if len(w.frame) == 0 {
		return nil, nil
	}
	j := &job{plain: w.frame, size: len(w.frame), done: make(chan struct{})}
	hashed := w.inside
	w.frame = nil
	w.plain += int64(j.size)
	w.pending = append(w.pending, j)
	w.bytes += j.size
	go func() {
		if hashed {
			j.zeros = allZeros(j.plain)
			j.digest = sha256.Sum256(j.plain)
		}
		j.packed = w.encoder.EncodeAll(j.plain, nil)
		j.plain = nil
		close(j.done)
	}()
	for len(w.pending) > maxPending || w.bytes > w.workers*maxPendingChunks*w.chunkSize && len(w.pending) > 1 {
		if err := w.drain(); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// drain writes the oldest frame.
func (w *Writer) drain() error {
	j := w.pending[0]
	w.pending = w.pending[1:]
	<-j.done
	w.bytes -= j.size
	packed := j.packed
	j.packed = nil
	j.stored.start = w.written
	err := w.emit(packed)
	j.stored.end = w.written
	return err
}

func (w *Writer) emit(b []byte) error {
	n, err := w.out.Write(b)
	w.written += int64(n)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// Close ends the tar stream and writes the table and the footer. After an
// error it returns that error and writes nothing.
func (w *Writer) Close() (Summary, error) {
	if w.err != nil {
		return Summary{}, w.err
	}
	s, err := w.close()
	if w.err = err; err == nil {
		w.err = errClosed
	}
	return s, err
}

var errClosed = errors.New("the archive is closed")

func (w *Writer) close() (s Summary, err error) {
	if err := w.tar.Close(); err != nil {
		return s, fmt.Errorf("end the tar stream: %w", err)
	}
	if _, err := w.cut(); err != nil {
		return s, err
	}
	for len(w.pending) > 0 {
		if err := w.drain(); err != nil {
			return s, err
		}
	}
	var table bytes.Buffer
	size, err := writeTable(&table, w.level, w.rows)
	if err != nil {
		return s, fmt.Errorf("compress the table of contents: %w", err)
	}
	if int64(table.Len()) > maxSkippable {
		return s, fmt.Errorf("the table of contents: %w", ErrTooBig)
	}
	s.TOCDigest = sha256.Sum256(table.Bytes())
	s.TOCSize = int64(table.Len())
	s.TarSize = w.plain
	s.Members = len(w.rows)
	start := w.written + frameHeaderSize
	end := appendFrame(nil, table.Bytes())
	end = appendFooter(end, footer{span{start, start + s.TOCSize}, size})
	err = w.emit(end)
	s.Size = w.written
	return s, err
}
