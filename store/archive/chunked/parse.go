package chunked

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	// maxRow is the most JSON that one row may have, in bytes. Linux takes names
	// and targets of 4 KiB and at most 64 KiB of attributes of an inode's.
	maxRow   = 1 << 20
	maxDepth = 16 // of what is skipped
)

// A parser reads a table as tokens. Keys count as they are written, each once;
// unknown ones are skipped.
type parser struct {
	json   *json.Decoder
	budget *budget
	seen   map[string]bool // keys of the row
}

// A budget limits what the decoder gathers in memory.
type budget struct {
	r    io.Reader
	left int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: a row of more than %d bytes", ErrTooBig, maxRow)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// parse calls add with each row, which is the same one over again.
func parse(r io.Reader, maxRows int, add func(*row) error) error {
	b := &budget{r: r}
	p := parser{json: json.NewDecoder(b), budget: b, seen: make(map[string]bool)}
	p.json.UseNumber()
	err := p.table(maxRows, add)
	switch {
	case err == nil || errors.Is(err, ErrFormat) || errors.Is(err, ErrTooBig) || errors.Is(err, ErrName):
		return err
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return bad("%s", err)
}

func (p *parser) table(maxRows int, add func(*row) error) error {
	p.budget.left = maxRow
	if err := p.delim('{'); err != nil {
		return err
	}
	top := make(map[string]bool)
	for p.json.More() {
		p.budget.left = maxRow
		key, err := p.key(top)
		if err != nil {
			return err
		}
		switch key {
		case "version":
			var version int64
			if err := p.value(&version); err != nil {
				return err
			}
			if version != 1 {
				return bad("version %d", version)
			}
		case "entries":
			err = p.rows(maxRows, add)
		default:
			err = p.skip()
		}
		if err != nil {
			return err
		}
	}
	if err := p.delim('}'); err != nil {
		return err
	}
	if !top["version"] || !top["entries"] {
		return bad("it has no version or no entries")
	}
	switch t, err := p.json.Token(); {
	case err == io.EOF:
		return nil
	case err != nil:
		return err
	default:
		return bad("%v follows its end", t)
	}
}

func (p *parser) rows(maxRows int, add func(*row) error) error {
	t, err := p.json.Token()
	if err != nil || t == nil { // an archive without members
		return err
	}
	if t != json.Delim('[') {
		return bad("its entries are no array")
	}
	var r row
	for n := 0; p.json.More(); n++ {
		if n == maxRows {
			return fmt.Errorf("%w: more than %d rows", ErrTooBig, maxRows)
		}
		p.budget.left = maxRow
		if err := p.row(&r); err != nil {
			return err
		}
		if err := add(&r); err != nil {
			return err
		}
	}
	return p.delim(']')
}

func (p *parser) row(r *row) error {
	*r = row{}
	clear(p.seen)
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.json.More() {
		key, err := p.key(p.seen)
		if err != nil {
			return err
		}
		if field := r.field(key); field != nil {
			err = p.value(field)
		} else {
			err = p.skip()
		}
		if err != nil {
			return err
		}
	}
	return p.delim('}')
}

// field is where the value of a key goes, nil for an unknown key.
func (r *row) field(key string) any {
	switch key {
	case "type":
		return &r.Type
	case "name":
		return &r.Name
	case "linkName":
		return &r.Linkname
	case "mode":
		return &r.Mode
	case "size":
		return &r.Size
	case "uid":
		return &r.UID
	case "gid":
		return &r.GID
	case "modtime":
		return &r.ModTime
	case "devMajor":
		return &r.Devmajor
	case "devMinor":
		return &r.Devminor
	case "xattrs":
		return &r.Xattrs
	case "digest":
		return &r.Digest
	case "offset":
		return &r.Offset
	case "endOffset":
		return &r.EndOffset
	case "chunkSize":
		return &r.ChunkSize
	case "chunkOffset":
		return &r.ChunkOffset
	case "chunkDigest":
		return &r.ChunkDigest
	case "chunkType":
		return &r.ChunkType
	}
	return nil
}

func (p *parser) delim(want json.Delim) error {
	t, err := p.json.Token()
	if err == nil && t != want {
		return bad("%v where %v should be", t, want)
	}
	return err
}

func (p *parser) key(seen map[string]bool) (string, error) {
	t, err := p.json.Token()
	if err != nil {
		return "", err
	}
	key, _ := t.(string) // the decoder takes nothing else for a key
	if seen[key] {
		return "", bad("the key %q occurs twice", key)
	}
	seen[key] = true
	return key, nil
}

// value reads a value of the kind that to points to. null leaves it alone.
func (p *parser) value(to any) error {
	t, err := p.json.Token()
	if err != nil || t == nil {
		return err
	}
	ok := false
	switch to := to.(type) {
	case *string:
		*to, ok = t.(string)
	case *int64:
		var n json.Number
		if n, ok = t.(json.Number); ok {
			*to, err = strconv.ParseInt(n.String(), 10, 64)
		}
	case *int:
		var n json.Number
		if n, ok = t.(json.Number); ok {
			*to, err = strconv.Atoi(n.String())
		}
	case *map[string]string:
		if ok = t == json.Delim('{'); ok {
			*to, err = p.strings()
			return err
		}
	}
	if !ok || err != nil {
		return bad("a value has the wrong type or is out of range")
	}
	return nil
}

// strings reads an object of strings up to its end.
func (p *parser) strings() (map[string]string, error) {
	values, seen := make(map[string]string), make(map[string]bool)
	for p.json.More() {
		key, err := p.key(seen)
		if err != nil {
			return nil, err
		}
		var value string
		if err := p.value(&value); err != nil {
			return nil, err
		}
		values[key] = value
	}
	return values, p.delim('}')
}

// skip reads a value, whatever it is.
func (p *parser) skip() error {
	for depth := 0; ; {
		t, err := p.json.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return bad("it is nested more than %d deep", maxDepth)
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
