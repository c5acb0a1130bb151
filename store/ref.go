package store

import (
	"fmt"
	"strings"
)

// maxName is the longest name or version, in bytes: the two of them, an "@"
// and a random suffix must fit into one file name.
const maxName = 96

// A Ref names a runtime, or one version of it.
type Ref struct {
	Name    string
	Version string // "" means the current one
}

// String gives NAME@VERSION, or NAME alone.
func (r Ref) String() string {
	if r.Version == "" {
		return r.Name
	}
	return r.Name + "@" + r.Version
}

// ParseRef reads NAME or NAME@VERSION. The error is ErrBadRef.
func ParseRef(s string) (Ref, error) {
	name, version, versioned := strings.Cut(s, "@")
	r := Ref{name, version}
	if !ValidName(name) {
		return Ref{}, fmt.Errorf("%w: %q is no name of a runtime", ErrBadRef, name)
	}
	if versioned && !ValidVersion(version) {
		return Ref{}, fmt.Errorf("%w: %q is no version", ErrBadRef, version)
	}
	return r, nil
}

// ValidName tells whether s can name a runtime: it starts with a letter or a
// digit, goes on with those and "._+~-", and is at most 96 bytes long.
func ValidName(s string) bool {
	if s == "" || len(s) > maxName || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.ContainsRune("._+~-", rune(s[i])) {
			return false
		}
	}
	return true
}

// ValidVersion tells whether s can be a version: the same characters and
// length as a name, but never "current".
func ValidVersion(s string) bool { return s != currentLink && ValidName(s) }

func isAlnum(c byte) bool { return isDigit(c) || isAlpha(c) }

func isAlpha(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
