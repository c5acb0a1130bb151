package chunked

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
)

// A Checker holds a tar stream against a table: every member has to be there,
// as the table has it, and none beside.
type Checker struct {
	entries map[string]*Entry // those not seen
	next    []*Entry
}

// NewChecker makes a Checker for one pass over the archive.
func (x *Index) NewChecker() *Checker {
	c := &Checker{entries: make(map[string]*Entry, len(x.entries)), next: x.entries}
	for _, e := range x.entries {
		c.entries[e.Name] = e
	}
	return c
}

// Member takes the next member of the stream and returns the table's entry,
// with whose Digest the caller compares a regular file's content. A difference
// is a *MemberError that is ErrFormat.
func (c *Checker) Member(h *tar.Header) (*Entry, error) {
	e := c.entries[h.Name]
	if e == nil {
		return nil, &MemberError{h.Name, bad("the archive has it, the table has not")}
	}
	delete(c.entries, h.Name)
	if err := e.agrees(h); err != nil {
		return nil, &MemberError{h.Name, err}
	}
	return e, nil
}

// Done says that the stream has ended. It is an error if the table has more.
func (c *Checker) Done() error {
	for _, e := range c.next {
		if c.entries[e.Name] != nil {
			return &MemberError{e.Name, bad("the table has it, the archive has not")}
		}
	}
	return nil
}

// Compare reads a tar stream to its end and compares it with the table, the
// content of every file included. A difference is a *MemberError that is
// ErrFormat, or ErrDigest for the content; other errors are those of the stream.
func (x *Index) Compare(r *tar.Reader) error {
	c := x.NewChecker()
	sum := sha256.New()
	for {
		h, err := r.Next()
		if err == io.EOF {
			return c.Done()
		}
		if err != nil {
			return fmt.Errorf("read the tar stream: %w", err)
		}
		e, err := c.Member(h)
		if err != nil {
			return err
		}
		if e.Type != tar.TypeReg {
			continue
		}
		sum.Reset()
		if _, err := io.Copy(sum, r); err != nil {
			return &MemberError{h.Name, fmt.Errorf("read the tar stream: %w", err)}
		}
		if got := Digest(sum.Sum(nil)); got != e.Digest {
			return &MemberError{h.Name, mismatch(got, e.Digest)}
		}
	}
}
