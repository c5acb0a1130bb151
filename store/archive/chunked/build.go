package chunked

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// maxText is the most bytes that the names, link targets and extended attributes
// of a table may have in all. They stay in memory, while a table that repeats
// them takes next to nothing in the archive. A large distribution has 20 MB.
const maxText = 64 << 20

// A builder makes entries of rows, and refuses those that cannot be true of any
// archive.
type builder struct {
	limit   int64 // where the contents have to end
	entries []*Entry
	names   map[string]struct{}
	size    int64
	text    int // bytes kept of names, targets and attributes

	// The file that rows of chunks belong to, or nil.
	file *Entry
	end  int64 // of its last chunk, in the archive
	next int64 // offset in it of a chunk to come; -1 until one has come
}

func newBuilder(limit int64) *builder {
	return &builder{limit: limit, names: make(map[string]struct{})}
}

// add takes the next row.
func (b *builder) add(r *row) error {
	do := b.chunk
	if r.Type != typeChunk {
		if err := b.closeFile(); err != nil {
			return err
		}
		do = b.member
	}
	if err := do(r); err != nil {
		return &MemberError{r.Name, err}
	}
	return nil
}

func (b *builder) member(r *row) error {
	e := &Entry{Name: r.Name, Linkname: r.Linkname, Mode: r.Mode, UID: r.UID, GID: r.GID,
		Devmajor: r.Devmajor, Devminor: r.Devminor}
	var ok bool
	if e.Type, ok = tarType(r.Type); !ok {
		return bad("the type %q is not known", r.Type)
	}
	switch {
	case !expressible(r.Name) || !expressible(r.Linkname):
		return ErrInexpressible
	case r.Name == "" || strings.IndexByte(r.Name, 0) >= 0:
		return bad("that is no name")
	case strings.IndexByte(r.Linkname, 0) >= 0:
		return bad("the link target has a zero byte")
	case r.Linkname == "" && (e.Type == tar.TypeLink || e.Type == tar.TypeSymlink):
		return bad("a link to nothing")
	case r.Mode < 0 || r.UID < 0 || r.GID < 0 || r.Devmajor < 0 || r.Devminor < 0:
		return bad("the mode, owner or device is negative")
	}
	key := path.Clean(r.Name)
	if _, twice := b.names[key]; twice {
		return bad("the name occurs twice")
	}
	b.names[key] = struct{}{}
	var err error
	if e.ModTime, err = parseTime(r.ModTime); err != nil {
		return bad("%q is no time", r.ModTime)
	}
	if e.Xattrs, err = parseXattrs(r.Xattrs); err != nil {
		return err
	}
	if b.text += e.text(); b.text > maxText {
		return fmt.Errorf("%w: names and attributes of more than %d bytes", ErrTooBig, maxText)
	}
	if e.Type == tar.TypeReg {
		err = b.regular(e, r)
	} else if r.Digest != "" || r.Offset != 0 || r.EndOffset != 0 {
		err = bad("content of what is no regular file")
	}
	if err != nil {
		return err
	}
	b.entries = append(b.entries, e)
	return nil
}

// text is what the entry keeps in memory besides itself.
func (e *Entry) text() int {
	n := len(e.Name) + len(e.Linkname)
	for name, value := range e.Xattrs {
		n += len(name) + len(value)
	}
	return n
}

func tarType(name string) (byte, bool) {
	for flag, n := range typeNames {
		if n == name {
			return flag, true
		}
	}
	return 0, false
}

// parseTime reads a time. None, and the zero time that older writers put there,
// is that of a tar header without one.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err == nil && t.IsZero() {
		t = time.Unix(0, 0)
	}
	return t.UTC(), err
}

func parseXattrs(encoded map[string]string) (map[string]string, error) {
	if len(encoded) == 0 {
		return nil, nil
	}
	attrs := make(map[string]string, len(encoded))
	for name, value := range encoded {
		if !expressible(name) {
			return nil, ErrInexpressible
		}
		b, err := base64.StdEncoding.Strict().DecodeString(value)
		if err != nil || name == "" || strings.IndexByte(name, 0) >= 0 {
			return nil, bad("an extended attribute is malformed")
		}
		attrs[name] = string(b)
	}
	return attrs, nil
}

func (b *builder) regular(e *Entry, r *row) error {
	if r.Size < 0 || r.Size > math.MaxInt64-b.size {
		return bad("a size of %d bytes", r.Size)
	}
	e.Size = r.Size
	b.size += r.Size
	if e.Size == 0 {
		e.Digest = sha256.Sum256(nil)
		if r.Digest != "" && r.Digest != formatDigest(e.Digest) {
			return bad("an empty file with the digest %q", r.Digest)
		}
		return nil
	}
	var ok bool
	if e.Digest, ok = parseDigest(r.Digest); !ok {
		return bad("%q is no digest", r.Digest)
	}
	// The member's header comes before.
	if r.Offset <= 0 || r.EndOffset <= r.Offset || r.EndOffset > b.limit {
		return bad("the content is said to be at %d to %d", r.Offset, r.EndOffset)
	}
	c, err := makeChunk(r)
	if err != nil {
		return err
	}
	e.chunks = []chunk{c}
	b.file, b.end, b.next = e, r.EndOffset, -1
	return nil
}

// makeChunk makes a chunk that has no end yet.
func makeChunk(r *row) (c chunk, err error) {
	c = chunk{stored: span{start: r.Offset}, size: r.ChunkSize}
	switch r.ChunkType {
	case "":
	case zeroChunk:
		c.zeros = true
	default:
		return c, bad("a chunk of the type %q is not known", r.ChunkType)
	}
	if r.ChunkDigest != "" {
		if c.digest, c.checked = parseDigest(r.ChunkDigest); !c.checked {
			return c, bad("%q is no digest", r.ChunkDigest)
		}
	}
	return c, nil
}

// chunk takes a chunk of the last file, which is not its first.
func (b *builder) chunk(r *row) error {
	if b.file == nil || b.file.Name != r.Name {
		return bad("a chunk without its file")
	}
	chunks := b.file.chunks
	first, last := &chunks[0], &chunks[len(chunks)-1]
	if b.next < 0 { // now we know that the first is not all
		if first.size <= 0 {
			return bad("a chunk of %d bytes", first.size)
		}
		b.next = first.size
	}
	c, err := makeChunk(r)
	switch {
	case err != nil:
		return err
	case r.ChunkOffset != b.next:
		return bad("the chunks leave off at %d and go on at %d", b.next, r.ChunkOffset)
	case c.size <= 0 || c.size > b.file.Size-b.next:
		return bad("a chunk of %d bytes", c.size)
	case c.stored.start <= last.stored.start || c.stored.start >= b.end:
		return bad("a chunk is said to be at %d, before it %d, and the file ends at %d",
			c.stored.start, last.stored.start, b.end)
	}
	last.stored.end = c.stored.start
	b.next += c.size
	b.file.chunks = append(chunks, c)
	return nil
}

// closeFile ends the last file.
func (b *builder) closeFile() error {
	e := b.file
	if b.file = nil; e == nil {
		return nil
	}
	last := &e.chunks[len(e.chunks)-1]
	last.stored.end = b.end
	if b.next < 0 { // what a lone chunk is said to be does not count
		*last = chunk{stored: last.stored, size: e.Size}
	} else if b.next != e.Size {
		return &MemberError{e.Name, bad("the chunks have %d bytes, the file %d", b.next, e.Size)}
	}
	return nil
}

// finish returns the entries and the sum of their sizes.
func (b *builder) finish() ([]*Entry, int64, error) {
	if err := b.closeFile(); err != nil {
		return nil, 0, err
	}
	files := slices.DeleteFunc(slices.Clone(b.entries), func(e *Entry) bool { return len(e.chunks) == 0 })
	slices.SortStableFunc(files, func(x, y *Entry) int { return cmp.Compare(x.stored().start, y.stored().start) })
	for i, e := range files {
		if i > 0 && e.stored().start < files[i-1].stored().end {
			return nil, 0, &MemberError{e.Name, bad("the content overlaps that of %q", files[i-1].Name)}
		}
	}
	return b.entries, b.size, nil
}

// stored is where a file's content is in the archive.
func (e *Entry) stored() span {
	if len(e.chunks) == 0 {
		return span{}
	}
	return span{e.chunks[0].stored.start, e.chunks[len(e.chunks)-1].stored.end}
}
