package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// repack makes an indexed archive, of which the table begins at the offset given.
func repack(t *testing.T, members ...member) (whole []byte, table int, toc [32]byte) {
	t.Helper()
	var b bytes.Buffer
	sum, err := Repack(t.Context(), bytes.NewReader(pack(t, members...)), &b, 3)
	check(t, err)
	whole = b.Bytes()
	// The table and what says where it is are the last of the skippable frames.
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18}
	table = bytes.LastIndex(whole[:bytes.LastIndex(whole, skippable)], skippable)
	return whole, table, sum.TOC
}

// A table that says something else than the tar stream makes a bad archive,
// whichever of the two is read, and the member is named, once.
func TestATableThatContradicts(t *testing.T) {
	a, b := noise(5000), noise(5001)[1:]
	members := []member{dir("files", 0o755), file("files/a", a), file("files/b", b)}
	whole, start, toc := repack(t, members...)
	for name, c := range map[string]struct {
		others []member
		member string
		read   bool // what the table has can be found where it says
	}{
		"content": {[]member{members[0], file("files/a", b), members[2]}, "files/a", true},
		"name":    {[]member{members[0], members[1], file("files/c", b)}, "files/b", false},
		"type":    {[]member{members[0], members[1], hard("files/b", "files/a")}, "files/b", false},
		"fewer":   {members[:2], "files/b", false},
	} {
		t.Run(name, func(t *testing.T) {
			other, otherStart, otherTOC := repack(t, c.others...)
			mixed := append(bytes.Clone(whole[:start]), other[otherStart:]...)
			if c.read && start != otherStart {
				t.Fatalf("the tables are at %d and %d", start, otherStart)
			}
			// Its footer, of 64 bytes, begins with where the table is, behind 8 bytes
			// of the frame's own.
			at := mixed[len(mixed)-64:]
			binary.LittleEndian.PutUint64(at, uint64(start+8))
			wantBlamed := func(err error) {
				t.Helper()
				if !errors.Is(err, ErrFormat) || strings.Count(err.Error(), `member "`+c.member+`"`) != 1 {
					t.Errorf("%v, want ErrFormat of %s", err, c.member)
				}
			}
			opt := Options{Whole: &Whole{bytes.NewReader(mixed), int64(len(mixed))}}
			_, _, err := unpack(t, mixed, opt)
			wantBlamed(err)
			if c.read {
				_, err = UnpackIndexed(t.Context(), bytes.NewReader(mixed), int64(len(mixed)), otherTOC, scratch(t), Options{})
				wantBlamed(err)
			}
		})
	}
	opt := Options{Whole: &Whole{bytes.NewReader(whole), int64(len(whole))}}
	_, _, err := unpack(t, whole, opt)
	check(t, err)
	_, err = UnpackIndexed(t.Context(), bytes.NewReader(whole), int64(len(whole)), toc, scratch(t), Options{})
	check(t, err)
}
