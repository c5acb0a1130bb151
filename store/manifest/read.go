package manifest

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// maxLine is more than the longest path and link target of Linux take (4,096
// bytes each, four characters a byte at worst), and the keywords.
const maxLine = 64 << 10

// A Reader reads a manifest. It is not safe for concurrent use.
type Reader struct {
	zip     *gzip.Reader
	entries []Entry
	loaded  bool
	err     error
}

// NewReader begins to read the gzip'd manifest r, which stays the caller's.
func NewReader(r io.Reader) (*Reader, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", noEOF(err))
	}
	return &Reader{zip: zip}, nil
}

// Next returns the next entry, in the order of Writer.Write, and io.EOF after
// the last. Times are in UTC.
//
// It takes what Writer writes and little else: no other keywords or comments,
// no path twice or outside its directory, no path that is absolute or has "..".
// The error names the line. As the order of the lines is not that of the
// paths, the first call reads all, and fails if anything is wrong anywhere.
func (r *Reader) Next() (Entry, error) {
	if !r.loaded {
		r.loaded = true
		if r.err = r.load(); r.err != nil {
			r.entries = nil
		}
	}
	if r.err != nil {
		return Entry{}, r.err
	}
	if len(r.entries) == 0 {
		return Entry{}, io.EOF
	}
	e := r.entries[0]
	r.entries = r.entries[1:]
	return e, nil
}

// Close frees what the Reader holds. It does not close the underlying reader.
func (r *Reader) Close() error {
	r.loaded, r.entries, r.err = true, nil, errors.New("read the manifest: closed")
	return r.zip.Close()
}

func (r *Reader) load() error {
	lines := bufio.NewReaderSize(r.zip, maxLine)
	var roll roll
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0 && number > 2:
			slices.SortFunc(r.entries, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
			return nil
		case err == bufio.ErrBufferFull:
			err = errors.New("too long")
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = r.add(&roll, number, string(line[:len(line)-1]))
		}
		if err != nil {
			return fmt.Errorf("read the manifest: line %d: %w", number, err)
		}
	}
}

func (r *Reader) add(roll *roll, number int, line string) error {
	if number == 1 {
		if line != firstLine {
			return fmt.Errorf("not %q", firstLine)
		}
		return nil
	}
	e, err := parseLine(line)
	if err == nil {
		err = e.check()
	}
	if err == nil {
		err = roll.add(&e, compareLines)
	}
	if err != nil {
		return err
	}
	r.entries = append(r.entries, e)
	return nil
}

func parseLine(line string) (Entry, error) {
	path, rest, _ := strings.Cut(line, " ")
	var e Entry
	var err error
	if e.Path, err = unescape(path); err != nil {
		return Entry{}, err
	}
	if path != "." {
		var below bool
		// A second "." for the root is "./." here, which check refuses.
		if e.Path, below = strings.CutPrefix(e.Path, "./"); !below || e.Path == "." {
			return Entry{}, fmt.Errorf("path %s is not one inside the tree", strconv.Quote(path))
		}
	}
	seen := make(map[string]bool, 5)
	for word := range strings.SplitSeq(rest, " ") {
		key, value, _ := strings.Cut(word, "=")
		if seen[key] {
			return Entry{}, fmt.Errorf("keyword %s twice", strconv.Quote(key))
		}
		seen[key] = true
		if err := e.set(key, value); err != nil {
			return Entry{}, fmt.Errorf("%s: %w", strconv.Quote(word), err)
		}
	}
	for _, key := range keywords(e.Type) {
		if !seen[key] {
			return Entry{}, fmt.Errorf("keyword %q is missing", key)
		}
	}
	if len(seen) != len(keywords(e.Type)) {
		return Entry{}, fmt.Errorf("keywords that a %s does not have", e.Type)
	}
	return e, nil
}

// keywords are those that a member of the type has, all of them.
func keywords(t Type) []string {
	switch t {
	case File:
		return []string{"type", "mode", "size", "time", "sha256digest"}
	case Link:
		return []string{"type", "mode", "time", "link"}
	}
	return []string{"type", "mode", "time"}
}

func (e *Entry) set(key, value string) (err error) {
	switch key {
	case "type":
		for _, t := range []Type{File, Dir, Link} {
			if value == t.String() {
				e.Type = t
				return nil
			}
		}
		return errors.New("unknown type")
	case "mode":
		mode, err := strconv.ParseUint(value, 8, 32)
		e.Mode = uint32(mode)
		return err
	case "size":
		e.Size, err = strconv.ParseInt(value, 10, 64)
		return err
	case "time":
		e.Time, err = parseTime(value)
		return err
	case "sha256digest":
		digest, err := hex.DecodeString(value)
		if err != nil || len(digest) != len(e.Digest) {
			return errors.New("not 64 hexadecimal digits")
		}
		copy(e.Digest[:], digest)
		return nil
	case "link":
		e.Link, err = unescape(value)
		return err
	}
	return errors.New("unknown keyword")
}

func parseTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	nanoseconds, err := strconv.ParseUint(fraction, 10, 32)
	if err != nil || len(fraction) != 9 {
		return time.Time{}, errors.New("not nine digits of a second")
	}
	return time.Unix(seconds, int64(nanoseconds)).UTC(), nil
}

func unescape(s string) (string, error) {
	for i := range len(s) {
		if c := s[i]; !isPlain(c) && c != '\\' {
			return "", fmt.Errorf("%s has a byte that should be escaped", strconv.Quote(s))
		}
	}
	return Unescape(s)
}

// Unescape resolves the escapes of a manifest, a backslash and three octal
// digits for a byte.
func Unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			if len(s) < i+4 {
				return "", fmt.Errorf("bad escape in %s", strconv.Quote(s))
			}
			n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
			if err != nil {
				return "", fmt.Errorf("bad escape in %s", strconv.Quote(s))
			}
			c = byte(n)
			i += 3
		}
		b = append(b, c)
	}
	return string(b), nil
}

// noEOF keeps an empty file from looking like the end of the entries.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
