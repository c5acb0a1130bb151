package manifest

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/klauspost/compress/gzip"
)

// firstLine marks the format.
const firstLine = "#mtree"

// A Writer writes a manifest. It is not safe for concurrent use.
type Writer struct {
	zip  *gzip.Writer
	buf  *bufio.Writer
	roll roll
	late []Entry // those that mtree(8) would take for patterns
	line []byte
	err  error
}

// NewWriter begins a manifest on w, which stays the caller's. The same entries
// give the same bytes.
func NewWriter(w io.Writer) *Writer {
	zip := gzip.NewWriter(w)
	m := &Writer{zip: zip, buf: bufio.NewWriterSize(zip, 64<<10)}
	_, m.err = m.buf.WriteString(firstLine + "\n")
	return m
}

// Write adds an entry. Entries come sorted by Path bytewise, the root "."
// first, every directory before what is in it. After an error the Writer
// returns that error for ever.
func (w *Writer) Write(e Entry) error {
	if w.err != nil {
		return w.err
	}
	err := e.check()
	if err == nil {
		err = w.roll.add(&e, comparePaths)
	}
	if err != nil {
		w.err = fmt.Errorf("write the manifest: %w", err)
		return w.err
	}
	if isMagic(e.Path) {
		w.late = append(w.late, e)
		return nil
	}
	return w.put(&e)
}

// Close ends the manifest and writes what is still held back. It does not
// close the underlying writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	slices.SortFunc(w.late, func(a, b Entry) int { return compareLines(a.Path, b.Path) })
	for i := range w.late {
		if err := w.put(&w.late[i]); err != nil {
			return err
		}
	}
	w.late = nil
	if w.err = w.buf.Flush(); w.err == nil {
		w.err = w.zip.Close()
	}
	return w.err
}

func (w *Writer) put(e *Entry) error {
	w.line = appendLine(w.line[:0], e)
	_, w.err = w.buf.Write(w.line)
	return w.err
}

func appendLine(b []byte, e *Entry) []byte {
	if e.Path != "." {
		b = append(b, "./"...)
	}
	b = appendEscaped(b, e.Path)
	b = append(b, " type="...)
	b = append(b, e.Type.String()...)
	b = fmt.Appendf(b, " mode=%04o", e.Mode)
	if e.Type == File {
		b = append(b, " size="...)
		b = strconv.AppendInt(b, e.Size, 10)
	}
	b = fmt.Appendf(b, " time=%d.%09d", e.Time.Unix(), e.Time.Nanosecond())
	switch e.Type {
	case File:
		b = append(b, " sha256digest="...)
		b = hex.AppendEncode(b, e.Digest[:])
	case Link:
		b = append(b, " link="...)
		b = appendEscaped(b, e.Link)
	}
	return append(b, '\n')
}

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}

// isPlain tells whether a byte stands for itself: it is printable, and neither
// separates (space, "="), nor begins a comment or an escape, nor is magic.
func isPlain(c byte) bool {
	switch c {
	case '#', '=', '\\', '*', '?', '[':
		return false
	}
	return '!' <= c && c <= '~'
}
