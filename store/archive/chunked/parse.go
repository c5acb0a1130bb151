package chunked

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxRow is the most JSON that one row may have, in bytes. Linux takes names and
// targets of 4 KiB and no more than 64 KiB for an attribute.
const maxRow = 1 << 20

// maxKeys is the most keys that a table may have: two are known.
const maxKeys = 100

// A parser reads a table row by row. Keys count as they are written, each once;
// unknown ones are skipped. The decoder knows the grammar and limits the depth.
type parser struct {
	json   *json.Decoder
	budget *budget
	raw    json.RawMessage
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
	p := parser{json: json.NewDecoder(b), budget: b}
	err := p.table(maxRows, add)
	switch {
	case err == nil || errors.Is(err, ErrFormat) || errors.Is(err, ErrTooBig) || errors.Is(err, ErrInexpressible):
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
		t, err := p.json.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string) // the decoder takes nothing else for a key
		if top[key] {
			return bad("the key %q occurs twice", key)
		}
		if len(top) == maxKeys {
			return fmt.Errorf("%w: more than %d keys", ErrTooBig, maxKeys)
		}
		if top[key] = true; key == "entries" {
			err = p.rows(maxRows, add)
		} else if err = p.json.Decode(&p.raw); err == nil && key == "version" && string(p.raw) != "1" {
			err = bad("version %q", p.raw)
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
		if err := p.json.Decode(&p.raw); err != nil {
			return err
		}
		if err := r.parse(p.raw); err != nil {
			return err
		}
		if err := add(&r); err != nil {
			return err
		}
	}
	return p.delim(']')
}

// field is where the value of a key goes, and its bit; nil for an unknown key.
func (r *row) field(key string) (to any, bit uint32) {
	switch key {
	case "type":
		return &r.Type, 1 << 0
	case "name":
		return &r.Name, 1 << 1
	case "linkName":
		return &r.Linkname, 1 << 2
	case "mode":
		return &r.Mode, 1 << 3
	case "size":
		return &r.Size, 1 << 4
	case "uid":
		return &r.UID, 1 << 5
	case "gid":
		return &r.GID, 1 << 6
	case "modtime":
		return &r.ModTime, 1 << 7
	case "devMajor":
		return &r.Devmajor, 1 << 8
	case "devMinor":
		return &r.Devminor, 1 << 9
	case "xattrs":
		return &r.Xattrs, 1 << 10
	case "digest":
		return &r.Digest, 1 << 11
	case "offset":
		return &r.Offset, 1 << 12
	case "endOffset":
		return &r.EndOffset, 1 << 13
	case "chunkSize":
		return &r.ChunkSize, 1 << 14
	case "chunkOffset":
		return &r.ChunkOffset, 1 << 15
	case "chunkDigest":
		return &r.ChunkDigest, 1 << 16
	case "chunkType":
		return &r.ChunkType, 1 << 17
	}
	return nil, 0
}

func (p *parser) delim(want json.Delim) error {
	t, err := p.json.Token()
	if err == nil && t != want {
		return bad("%v where %v should be", t, want)
	}
	return err
}
