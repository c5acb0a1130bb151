// Package manifest reads and writes the list of a tree's members: type, mode,
// size, time, content digest and link target of each.
//
// The format is mtree(5), gzip'd: a first line "#mtree", then one member a
// line with its full path, as bsdtar writes it and as both libarchive and
// NetBSD's mtree(8) read it:
//
//	. type=dir mode=0755 time=1700000000.000000000
//	./bin/sh type=link mode=0777 time=1700000000.000000000 link=dash
//	./bin/dash type=file mode=0755 size=5 time=1700000000.000000000 sha256digest=...
//
// Bytes outside a small safe set are written as backslash and three octal
// digits, the one escape that both programs decode alike. A time before 1970
// is the whole second below it and the nanoseconds since: -1.500000000 is half
// a second before the epoch.
//
// mtree(8) takes a name with one of "*?[" for a pattern, in whatever way it is
// escaped, and compares a file with the first line that matches. Such members
// therefore stand at the end, the most literal name first, where they cannot
// hide another's line. Two siblings that match each other, such as "*" and
// "?", remain beyond mtree(8); this package has no trouble with them.
package manifest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Type is what a member is.
type Type uint8

const (
	File Type = iota + 1
	Dir
	Link
)

// String gives mtree's word: "file", "dir" or "link".
func (t Type) String() string {
	switch t {
	case File:
		return "file"
	case Dir:
		return "dir"
	case Link:
		return "link"
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// Entry is one member of a tree.
type Entry struct {
	// Path is relative and slash-separated, without "." and ".." as parts,
	// except for the root itself, which is ".".
	Path string
	Type Type
	// Mode has the permission bits and the sticky bit, 0 to 01777.
	Mode   uint32
	Size   int64     // bytes, of a File
	Time   time.Time // modification, to the nanosecond
	Digest [32]byte  // SHA-256 of the content, of a File
	Link   string    // target, of a Link
}

// check tells what makes an entry unfit for a manifest.
func (e *Entry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	if e.Mode > 0o1777 {
		return fmt.Errorf("mode %#o has bits other than permissions and sticky", e.Mode)
	}
	if e.Type != File && (e.Size != 0 || e.Digest != [32]byte{}) {
		return fmt.Errorf("a %s with size or digest", e.Type)
	}
	if e.Type != Link && e.Link != "" {
		return fmt.Errorf("a %s with a link target", e.Type)
	}
	switch e.Type {
	case Dir:
	case File:
		if e.Size < 0 {
			return fmt.Errorf("size %d", e.Size)
		}
	case Link:
		if e.Link == "" || strings.IndexByte(e.Link, 0) >= 0 {
			return fmt.Errorf("link target %s", strconv.Quote(e.Link))
		}
	default:
		return errors.New("no type of ours")
	}
	return nil
}

func checkPath(path string) error {
	if path == "." {
		return nil
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return fmt.Errorf("path %s is not one inside the tree", strconv.Quote(path))
		}
	}
	return nil
}

// A roll sees to it that members come in their order, each once, after the
// directory they are in, and after the root.
type roll struct {
	last string
	dirs map[string]bool
}

func (r *roll) add(e *Entry, compare func(a, b string) int) error {
	if r.dirs == nil {
		if e.Path != "." || e.Type != Dir {
			return errors.New(`the first member is not the directory "."`)
		}
		r.dirs = map[string]bool{".": true}
		return nil
	}
	if e.Path == "." || r.last != "" && compare(e.Path, r.last) <= 0 {
		return fmt.Errorf("path %s is out of order or there twice", strconv.Quote(e.Path))
	}
	parent := "."
	if i := strings.LastIndexByte(e.Path, '/'); i >= 0 {
		parent = e.Path[:i]
	}
	if !r.dirs[parent] {
		return fmt.Errorf("path %s is in no directory listed before", strconv.Quote(e.Path))
	}
	if e.Type == Dir {
		r.dirs[e.Path] = true
	}
	r.last = e.Path
	return nil
}
