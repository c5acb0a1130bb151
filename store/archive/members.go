package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
)

// members is a stream of members: those of an archive, or of a directory. Next
// goes on to the next one, io.EOF is the good end; Read gives the content of
// the one that Next has returned. Every other error is ready to be returned.
type members interface {
	Next() (*tar.Header, error)
	io.Reader
}

// maxPadding is the most zeros that may follow an archive, in bytes: tapes and
// tar's blocking factor leave less, and a few kilobytes of gzip can hold
// gigabytes of them.
const maxPadding = 16 << 20

const blockSize = 512 // of tar

// tarMembers are the members of an archive.
type tarMembers struct {
	ctx     context.Context
	raw     *ahead    // the source's bytes as they come
	sum     hash.Hash // of raw, in its goroutine until raw has ended
	size    int64     // of raw, likewise
	in      *tally    // the tar stream
	tar     *tar.Reader
	started bool
}

// openTar sets up the pipeline: a goroutine that reads and hashes r, one that
// decompresses, and the caller's, which reads the members. The goroutines are
// counted in stages, and end when ctx is done.
func openTar(ctx context.Context, stages *sync.WaitGroup, r io.Reader, read func(int64)) (*tarMembers, error) {
	m := &tarMembers{ctx: ctx, sum: sha256.New()}
	m.raw = readAhead(ctx, stages, r, func(b []byte) {
		m.sum.Write(b)
		m.size += int64(len(b))
		if read != nil {
			read(int64(len(b)))
		}
	}, nil)
	src := bufio.NewReaderSize(m.raw, 64<<10)
	plain, err := decompress(ctx, src)
	if err != nil {
		return nil, m.blame(err)
	}
	if _, compressed := plain.(*whole); compressed {
		m.in = &tally{r: readAhead(ctx, stages, plain, nil, func() { plain.Close() })}
	} else {
		m.in = &tally{r: plain}
	}
	m.tar = tar.NewReader(m.in)
	return m, nil
}

// blame finds the cause of an error of the tar stream: the source's own error,
// which a decoder may have turned into one of its own, or the end of the
// context, or the archive.
func (m *tarMembers) blame(err error) error {
	if own := m.raw.fault(); own != nil {
		return fmt.Errorf("read the archive: %w", own)
	}
	if m.ctx.Err() != nil {
		return fmt.Errorf("read the archive: %w", context.Cause(m.ctx))
	}
	switch {
	case errors.Is(err, ErrFormat), errors.Is(err, ErrTooBig), errors.Is(err, errProgram):
		return err
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: truncated", ErrFormat)
	case errors.Is(err, tar.ErrHeader) && !m.started:
		return fmt.Errorf("%w: no tar archive, or compressed in a way that is not known", ErrFormat)
	}
	return fmt.Errorf("%w (%w)", ErrFormat, err)
}

func (m *tarMembers) Next() (*tar.Header, error) {
	for {
		// Reads what nobody wanted, so that the end of the member is known.
		if m.started {
			if _, err := io.Copy(io.Discard, m.tar); err != nil {
				return nil, m.blame(err)
			}
		}
		m.in.mark()
		h, err := m.tar.Next()
		if err == io.EOF {
			return nil, m.end()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, m.blame(err)
		}
		m.started = true
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			if err := checkGlobal(h); err != nil {
				return nil, err
			}
			continue
		case 'V': // the label of the volume, tar --label
			continue
		}
		return h, nil
	}
}

func (m *tarMembers) Read(p []byte) (int, error) {
	n, err := m.tar.Read(p)
	if err != nil && err != io.EOF {
		err = m.blame(err)
	}
	return n, err
}

// end is reached at the end-of-archive mark, or where the stream ends without
// one. It reads the rest, which must be zeros, and returns io.EOF if all is
// well.
func (m *tarMembers) end() error {
	if !m.in.marked() {
		if m.in.size == 0 {
			return m.blame(fmt.Errorf("%w: empty", ErrFormat))
		}
		return m.blame(io.ErrUnexpectedEOF)
	}
	b := make([]byte, 32<<10)
	for left := maxPadding; ; {
		n, err := m.in.Read(b)
		if len(bytes.TrimLeft(b[:n], "\x00")) > 0 {
			return m.blame(fmt.Errorf("%w: something follows its end", ErrFormat))
		}
		if left -= n; left < 0 {
			return m.blame(fmt.Errorf("%w: zeros after the end of the archive", ErrTooBig))
		}
		if err == io.EOF {
			return io.EOF
		}
		if err != nil {
			return m.blame(err)
		}
	}
}

// checkGlobal refuses what would change the members that follow: archive/tar
// does not apply it. Those of git have a comment only.
func checkGlobal(h *tar.Header) error {
	for key := range h.PAXRecords {
		switch {
		case key == "path", key == "linkpath", key == "size", key == "mtime",
			strings.HasPrefix(key, "SCHILY.xattr."), strings.HasPrefix(key, "GNU.sparse."):
			return fmt.Errorf("%w: a global header with %q", ErrFormat, key)
		}
	}
	return nil
}

// A tally watches the tar stream for its end-of-archive mark. archive/tar
// takes the end of the stream for the end of the archive, so that an archive
// cut between two members would look whole.
type tally struct {
	r     io.Reader
	size  int64
	from  int64 // where the next header begins
	zeros int64 // how many there are at the end of what was read
}

func (t *tally) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.size += int64(n)
	if text := len(bytes.TrimRight(p[:n], "\x00")); text > 0 {
		t.zeros = int64(n - text)
	} else {
		t.zeros += int64(n)
	}
	return n, err
}

// mark is called when a member has been read to its end, short of its padding.
func (t *tally) mark() {
	t.from = (t.size + blockSize - 1) / blockSize * blockSize
}

// marked tells whether a block of zeros followed the last member.
func (t *tally) marked() bool {
	return min(t.zeros, t.size-t.from) >= blockSize
}
