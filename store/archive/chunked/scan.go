package chunked

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// parse reads a row from JSON that is known to be well-formed.
func (r *row) parse(b []byte) error {
	*r = row{}
	var seen uint32
	return eachKey(b, func(key string, value []byte) error {
		to, bit := r.field(key)
		if seen&bit != 0 {
			return bad("the key %q occurs twice", key)
		}
		seen |= bit
		if to == nil || string(value) == "null" {
			return nil
		}
		return assign(to, value)
	})
}

func assign(to any, value []byte) (err error) {
	switch to := to.(type) {
	case *string:
		*to, err = text(value)
	case *int64:
		*to, err = strconv.ParseInt(string(value), 10, 64)
	case *int:
		*to, err = strconv.Atoi(string(value))
	case *map[string]string:
		*to, err = texts(value)
		return err
	}
	if err != nil {
		return bad("a value has the wrong type or is out of range")
	}
	return nil
}

// texts reads an object of strings.
func texts(b []byte) (map[string]string, error) {
	values := make(map[string]string)
	return values, eachKey(b, func(key string, value []byte) error {
		if _, twice := values[key]; twice {
			return bad("the key %q occurs twice", key)
		}
		var s string
		err := assign(&s, value)
		values[key] = s
		return err
	})
}

// text reads a string, the plain ones without ado.
func text(b []byte) (s string, err error) {
	if len(b) >= 2 && b[0] == '"' {
		plain := b[1 : len(b)-1]
		if bytes.IndexByte(plain, '\\') < 0 && bytes.IndexFunc(plain, notASCII) < 0 {
			return string(plain), nil
		}
	}
	err = json.Unmarshal(b, &s)
	return s, err
}

func notASCII(r rune) bool { return r >= utf8.RuneSelf }

// eachKey calls f with the members of an object.
func eachKey(b []byte, f func(key string, value []byte) error) error {
	if len(b) == 0 || b[0] != '{' {
		return bad("a value has the wrong type")
	}
	for b = after(b[1:]); b[0] != '}'; {
		n := valueLen(b)
		key, err := text(b[:n])
		if err != nil {
			return bad("%s", err)
		}
		b = after(b[n:])
		n = valueLen(b)
		if err := f(key, b[:n]); err != nil {
			return err
		}
		b = after(b[n:])
	}
	return nil
}

// after leaves out what is between one value and the next.
func after(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n:,") }

// valueLen is how long the value is that b begins with.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ' ', '\t', '\r', '\n', ':', ',':
			continue
		default: // a number, true, false or null, up to what comes next
			for bytes.IndexByte([]byte(" \t\r\n,}]"), b[i+1]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
}
