package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"berth/store/archive/chunked"
)

// UnpackIndexed does with a zstd:chunked archive what Unpack does, but reads of
// it only the table of contents, whose SHA-256 has to be toc, and the content
// that no donor has. Every file is checked against the table. The digest of the
// whole archive stays unknown.
//
// r is read at any place, in several goroutines, up to size bytes. The error is
// ErrFormat if there is no table, or not that one.
func UnpackIndexed(ctx context.Context, r io.ReaderAt, size int64, toc [32]byte, dst *os.File, opt Options) (*Tree, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The table is parsed while the donors' manifests are.
	var x *chunked.Index
	var opening errgroup.Group
	opening.Go(func() (err error) {
		x, err = chunked.Open(r, size, chunked.Options{Digest: &toc, MaxEntries: opt.MaxMembers})
		return err
	})
	w, err := newWriter(ctx, cancel, dst, opt)
	openErr := opening.Wait()
	if err != nil {
		return nil, err
	}
	defer w.close()
	if openErr != nil {
		return nil, blameTable(openErr)
	}
	src := &tableMembers{index: x, next: x.Entries(), read: opt.Read, told: 0}
	if err := w.write(src); err != nil {
		return nil, err
	}
	tree, err := w.finish()
	if err != nil {
		return nil, err
	}
	src.tell()
	tree.SourceSize = x.BytesRead()
	return tree, nil
}

// blameTable makes the table's faults those of the archive.
func blameTable(err error) error {
	var member *chunked.MemberError
	if errors.As(err, &member) {
		return &MemberError{member.Member, blameTable(member.Err)}
	}
	for _, kind := range []error{chunked.ErrFormat, chunked.ErrDigest, chunked.ErrInexpressible, chunked.ErrNotChunked} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w (%w)", ErrFormat, err)
		}
	}
	if errors.Is(err, chunked.ErrTooBig) {
		return fmt.Errorf("%w (%w)", ErrTooBig, err)
	}
	return err
}

// lazyMembers know the digest of a file before it is read, and let anybody read
// it later, who gets an error in place of the end of anything else. Read is for
// those of which they do not.
type lazyMembers interface {
	content() (digest [32]byte, open func() (io.Reader, error))
}

// tableMembers are the members that a table of contents has.
type tableMembers struct {
	index *chunked.Index
	next  []*chunked.Entry
	entry *chunked.Entry
	read  func(int64)
	told  int64
}

func (m *tableMembers) Next() (*tar.Header, error) {
	m.tell()
	if len(m.next) == 0 {
		return nil, io.EOF
	}
	m.entry, m.next = m.next[0], m.next[1:]
	return m.entry.Header(), nil
}

// tell reports what has been read since it last did.
func (m *tableMembers) tell() {
	if n := m.index.BytesRead(); m.read != nil && n > m.told {
		m.read(n - m.told)
		m.told = n
	}
}

func (m *tableMembers) content() ([32]byte, func() (io.Reader, error)) {
	entry := m.entry
	return entry.Digest, func() (io.Reader, error) {
		r, err := m.index.Content(entry)
		return blamed{r}, err
	}
}

// Read is never called: the content of all files is known.
func (m *tableMembers) Read([]byte) (int, error) { return 0, io.EOF }

// blamed is the content of an entry.
type blamed struct{ r io.Reader }

func (b blamed) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = blameTable(err)
	}
	return n, err
}

// A tableCheck holds what is unpacked from a tar stream against the table of
// contents at the archive's end: who reads the one and who reads the other get
// the same tree.
type tableCheck struct {
	checker *chunked.Checker
	files   []tableFile
}

type tableFile struct {
	member string
	inode  *inode
	want   [32]byte
}

// newTableCheck returns nil for an archive without a table.
func newTableCheck(at *Whole, most int) (*tableCheck, error) {
	if at == nil {
		return nil, nil
	}
	x, err := chunked.Open(at.ReaderAt, at.Size, chunked.Options{MaxEntries: most})
	if errors.Is(err, chunked.ErrNotChunked) {
		return nil, nil
	}
	if err != nil {
		return nil, blameTable(err)
	}
	return &tableCheck{checker: x.NewChecker()}, nil
}

// member compares a header, and keeps in mind what the content has to be.
func (c *tableCheck) member(h *tar.Header, w *writer) error {
	e, err := c.checker.Member(h)
	if err != nil {
		return blameTable(err)
	}
	if e.Type != tar.TypeReg {
		return nil
	}
	parts, err := split(h.Name)
	if err != nil {
		return err
	}
	if n, err := w.root.find(parts); err == nil && n != nil {
		c.files = append(c.files, tableFile{h.Name, n.inode, e.Digest})
	}
	return nil
}

// done compares what could not be before all files were made.
func (c *tableCheck) done() error {
	for _, f := range c.files {
		if f.inode.digest != f.want {
			return &MemberError{f.member, fmt.Errorf("%w: its content is not what the table of contents says", ErrFormat)}
		}
	}
	if err := c.checker.Done(); err != nil {
		return blameTable(err)
	}
	return nil
}
