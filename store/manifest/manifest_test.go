package manifest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// pack writes entries, which it sorts.
func pack(t fatal, entries []Entry) []byte {
	t.Helper()
	slices.SortFunc(entries, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			t.Fatalf("write %q: %v", e.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	return b.Bytes()
}

type fatal interface {
	Helper()
	Fatalf(string, ...any)
}

func unpack(b []byte) ([]Entry, error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var all []Entry
	for {
		e, err := r.Next()
		if err == io.EOF {
			return all, r.Close()
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
}

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.Bytes()
}

func TestLinesAreAsDocumented(t *testing.T) {
	root := Entry{Path: ".", Type: Dir, Mode: 0o755, Time: time.Unix(1700000000, 0)}
	b := pack(t, []Entry{
		root,
		{Path: "a b#=", Type: Link, Mode: 0o777, Time: time.Unix(-2, 5e8), Link: "x\ny\xff"},
		{Path: "*", Type: File, Mode: 0, Size: 3, Time: time.Unix(1<<33, 7), Digest: sha256.Sum256([]byte("abc"))},
		{Path: "tmp", Type: Dir, Mode: 0o1777, Time: time.Unix(0, 0)},
	})
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `#mtree
. type=dir mode=0755 time=1700000000.000000000
./a\040b\043\075 type=link mode=0777 time=-2.500000000 link=x\012y\377
./tmp type=dir mode=1777 time=0.000000000
./\052 type=file mode=0000 size=3 time=8589934592.000000007 sha256digest=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// name draws a path part of any bytes, often nasty ones.
func name() *rapid.Generator[string] {
	nasty := rapid.SampledFrom([]string{
		"...", "a..b", "..a", "*", "?x", "[a]", "[", `\`, `\052`, " ", "#", "a=b", "\n", "\xff", "-", "a", "b", "~", "!",
	})
	bytewise := rapid.Map(rapid.SliceOfN(rapid.ByteRange(1, 255), 1, 12), func(b []byte) string {
		return strings.ReplaceAll(string(b), "/", "_")
	})
	return rapid.OneOf(nasty, bytewise).Filter(func(s string) bool { return s != "." && s != ".." })
}

func instant() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
	})
}

// entries draws a tree.
func entries() *rapid.Generator[[]Entry] {
	return rapid.Custom(func(t *rapid.T) []Entry {
		all := []Entry{{Path: ".", Type: Dir, Mode: 0o755, Time: instant().Draw(t, "root")}}
		dirs := []string{""}
		seen := map[string]bool{}
		for range rapid.IntRange(0, 25).Draw(t, "members") {
			e := Entry{
				Path: rapid.SampledFrom(dirs).Draw(t, "dir") + name().Draw(t, "name"),
				Type: rapid.SampledFrom([]Type{File, Dir, Link}).Draw(t, "type"),
				Mode: rapid.Uint32Range(0, 0o1777).Draw(t, "mode"),
				Time: instant().Draw(t, "time"),
			}
			if seen[e.Path] {
				continue
			}
			seen[e.Path] = true
			switch e.Type {
			case File:
				e.Size = rapid.Int64Range(0, 1<<62).Draw(t, "size")
				copy(e.Digest[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
			case Dir:
				dirs = append(dirs, e.Path+"/")
			case Link:
				e.Link = name().Draw(t, "link")
			}
			all = append(all, e)
		}
		slices.SortFunc(all, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
		return all
	})
}

func TestReadingBackIsTheIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := entries().Draw(t, "entries")
		b := pack(t, want)
		if !bytes.Equal(b, pack(t, want)) {
			t.Fatalf("the same entries gave other bytes")
		}
		got, err := unpack(b)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got\n%+v\nwant\n%+v", got, want)
		}
	})
}

// TestOrderOfLines sees to it that every line is behind its directory's.
func TestOrderOfLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := entries().Draw(t, "entries")
		slices.SortFunc(all, func(a, b Entry) int { return compareLines(a.Path, b.Path) })
		seen := map[string]bool{}
		for i, e := range all {
			if e.Path != "." && !seen[filepath.Dir(e.Path)] {
				t.Fatalf("%q comes before its directory", e.Path)
			}
			seen[e.Path] = true
			if i > 0 && compareLines(all[i-1].Path, e.Path) >= 0 {
				t.Fatalf("%q, then %q", all[i-1].Path, e.Path)
			}
		}
	})
}

func TestWriterRefuses(t *testing.T) {
	root := Entry{Path: ".", Type: Dir}
	digest := [32]byte{1}
	for name, list := range map[string][]Entry{
		"no root":              {{Path: "a", Type: File}},
		"root is a file":       {{Path: ".", Type: File}},
		"root twice":           {root, root},
		"absolute":             {root, {Path: "/a", Type: File}},
		"dot-dot":              {root, {Path: "..", Type: Dir}},
		"dot-dot inside":       {root, {Path: "a", Type: Dir}, {Path: "a/../b", Type: File}},
		"dot":                  {root, {Path: "./a", Type: File}},
		"empty":                {root, {Path: "", Type: File}},
		"trailing slash":       {root, {Path: "a/", Type: Dir}},
		"zero byte":            {root, {Path: "a\x00b", Type: File}},
		"twice":                {root, {Path: "a", Type: File}, {Path: "a", Type: File}},
		"out of order":         {root, {Path: "b", Type: File}, {Path: "a", Type: File}},
		"in no directory":      {root, {Path: "a/b", Type: File}},
		"in a file":            {root, {Path: "a", Type: File}, {Path: "a/b", Type: File}},
		"in a link":            {root, {Path: "a", Type: Link, Link: "."}, {Path: "a/b", Type: File}},
		"setuid":               {root, {Path: "a", Type: File, Mode: 0o4755}},
		"negative size":        {root, {Path: "a", Type: File, Size: -1}},
		"no type":              {root, {Path: "a"}},
		"link to nothing":      {root, {Path: "a", Type: Link}},
		"link to a zero byte":  {root, {Path: "a", Type: Link, Link: "\x00"}},
		"directory and size":   {root, {Path: "a", Type: Dir, Size: 1}},
		"link and digest":      {root, {Path: "a", Type: Link, Link: "b", Digest: digest}},
		"file and link target": {root, {Path: "a", Type: File, Link: "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWriter(io.Discard)
			var err error
			for i, e := range list {
				if err = w.Write(e); err != nil && i < len(list)-1 {
					t.Fatalf("entry %d: %v", i, err)
				}
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if w.Write(root) != err || w.Close() != err {
				t.Error("the error was forgotten")
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	const (
		head = "#mtree\n"
		root = ". type=dir mode=0755 time=0.000000000\n"
		hex  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		file = "type=file mode=0644 size=0 time=0.000000000 sha256digest=" + hex
		dir  = "type=dir mode=0755 time=0.000000000"
		link = "type=link mode=0777 time=0.000000000 link="
	)
	if _, err := unpack(zipped(head + root + "./a " + file + "\n")); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, c := range map[string]struct {
		text string
		line int
	}{
		"no first line":      {root, 1},
		"nothing":            {"", 1},
		"no root":            {head, 2},
		"no newline":         {head + ". " + dir, 2},
		"empty line":         {head + root + "\n", 3},
		"comment":            {head + root + "# x\n", 3},
		"set":                {head + root + "/set type=file\n", 3},
		"absolute":           {head + root + "/a " + file + "\n", 3},
		"double slash":       {head + root + ".//a " + file + "\n", 3},
		"absolute, escaped":  {head + root + "./\\057a " + file + "\n", 3},
		"relative":           {head + root + "a " + file + "\n", 3},
		"dot-dot":            {head + root + "./../a " + file + "\n", 3},
		"dot-dot, escaped":   {head + root + "./\\056\\056 " + dir + "\n", 3},
		"dot twice":          {head + root + root, 3},
		"dot in another way": {head + root + "./. " + dir + "\n", 3},
		"dot below":          {head + root + "././a " + file + "\n", 3},
		"zero byte":          {head + root + "./a\\000 " + file + "\n", 3},
		"zero byte, bare":    {head + root + "./a\x00 " + file + "\n", 3},
		"twice":              {head + root + "./a " + file + "\n./a " + file + "\n", 4},
		"twice, escaped":     {head + root + "./a " + file + "\n./\\141 " + file + "\n", 4},
		"magic before plain": {head + root + "./\\052 " + file + "\n./a " + file + "\n", 4},
		"bare star":          {head + root + "./* " + file + "\n", 3},
		"short escape":       {head + root + "./a\\12 " + file + "\n", 3},
		"big escape":         {head + root + "./a\\777 " + file + "\n", 3},
		"escape at the end":  {head + root + "./a\\ " + file + "\n", 3},
		"unknown keyword":    {head + root + "./a " + file + " uid=0\n", 3},
		"keyword twice":      {head + root + "./a " + file + " mode=0644\n", 3},
		"not of a file":      {head + root + "./a " + file + " link=b\n", 3},
		"keyword missing":    {head + root + "./a type=file mode=0644 time=0.000000000\n", 3},
		"unknown type":       {head + root + "./a type=fifo mode=0644 time=0.000000000\n", 3},
		"setuid":             {head + root + "./a type=dir mode=4755 time=0.000000000\n", 3},
		"mode":               {head + root + "./a type=dir mode=8 time=0.000000000\n", 3},
		"size":               {head + root + strings.Replace("./a "+file, "size=0", "size=-1", 1) + "\n", 3},
		"digest":             {head + root + "./a " + file + "00\n", 3},
		"time without ns":    {head + root + "./a type=dir mode=0755 time=0\n", 3},
		"time, ns short":     {head + root + "./a type=dir mode=0755 time=0.1\n", 3},
		"time, no second":    {head + root + "./a type=dir mode=0755 time=.000000000\n", 3},
		"time, ns negative":  {head + root + "./a type=dir mode=0755 time=0.-00000001\n", 3},
		"two spaces":         {head + root + "./a  " + file + "\n", 3},
		"trailing space":     {head + root + "./a " + link + "b \n", 3},
		"link, bare equals":  {head + root + "./a " + link + "b=c\n", 3},
		"too long":           {head + root + "./" + strings.Repeat("a", maxLine) + " " + file + "\n", 3},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpack(zipped(c.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if want := fmt.Sprintf("line %d:", c.line); !strings.Contains(err.Error(), want) {
				t.Errorf("%v: no %q", err, want)
			}
		})
	}
}

func TestReaderRefusesBadGzip(t *testing.T) {
	good := pack(t, []Entry{{Path: ".", Type: Dir, Mode: 0o755, Time: time.Unix(1, 0)}})
	for name, b := range map[string][]byte{
		"empty":     nil,
		"plain":     []byte("#mtree\n"),
		"truncated": good[:len(good)-9],
		"no sum":    good[:len(good)-1],
		"garbage":   append(slices.Clone(good), "garbage"...),
	} {
		if _, err := unpack(b); err == nil || err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsStay(t *testing.T) {
	r, err := NewReader(bytes.NewReader(zipped("#mtree\nx\n")))
	if err != nil {
		t.Fatal(err)
	}
	_, first := r.Next()
	if _, again := r.Next(); first == nil || again != first {
		t.Errorf("%v, then %v", first, again)
	}
	r.Close()
	if _, err := r.Next(); err == nil || err == io.EOF {
		t.Errorf("after Close: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	w := NewWriter(full{})
	w.Write(Entry{Path: ".", Type: Dir})
	if err := w.Close(); err != unix.ENOSPC {
		t.Errorf("close: %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestLiterals(t *testing.T) {
	for name, want := range map[string]int{
		"a*b": 2, "*": 0, "??": 0, "[": 1, "[a": 2, "[a]": 0, "[]]x": 1, "[abc]x*": 1, `\*`: 1, `\`: 1, "[id].js": 3,
	} {
		if got := literals(name); got != want {
			t.Errorf("%q has %d, want %d", name, got, want)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("#mtree\n. type=dir mode=0755 time=0.000000000\n./a type=link mode=0777 time=-1.000000001 link=\\001\n"))
	f.Add([]byte("#mtree\n. type=dir mode=0755 time=0.000000000\n./\\052 type=file mode=0 size=1 time=9.000000000 " +
		"sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n./a type=dir mode=1777 time=1.000000000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := unpack(zipped(string(text)))
		if err != nil {
			return
		}
		again, err := unpack(pack(t, all))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(all, again) {
			t.Fatalf("%+v, then %+v", all, again)
		}
	})
}

func BenchmarkWriteAndRead(b *testing.B) {
	all := []Entry{{Path: ".", Type: Dir, Mode: 0o755}}
	for i := range 20000 {
		all = append(all, Entry{Path: fmt.Sprintf("member%06d", i), Type: File, Mode: 0o644, Size: int64(i), Digest: sha256.Sum256([]byte{byte(i)})})
	}
	for b.Loop() {
		got, err := unpack(pack(b, all))
		if err != nil || len(got) != len(all) {
			b.Fatal(err)
		}
	}
}
