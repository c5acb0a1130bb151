package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHostile(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		lock := Options{LockFile: ".ref"}
		outside := scratch(t).Name()
		precious := filepath.Join(outside, "precious")
		check(t, os.WriteFile(precious, []byte("precious"), 0o644))
		chr := node1("files/.ref", tar.TypeChar)
		for name, c := range map[string]struct {
			opt     Options
			members []member
			want    error
			blame   string
		}{
			"dot-dot":               {lock, []member{file("../x", "")}, ErrUnsafe, "../x"},
			"dot-dot inside":        {lock, []member{dir("a", 0o755), file("a/../../x", "")}, ErrUnsafe, "a/../../x"},
			"dot-dot at the end":    {lock, []member{dir("a/..", 0o755)}, ErrUnsafe, "a/.."},
			"dot-dot that stays":    {lock, []member{dir("a", 0o755), file("a/../b", "")}, ErrUnsafe, "a/../b"},
			"absolute":              {lock, []member{file(outside+"/x", "")}, ErrUnsafe, outside + "/x"},
			"absolute directory":    {lock, []member{dir("/", 0o777)}, ErrUnsafe, "/"},
			"through a symlink":     {lock, []member{link("a", outside), file("a/precious", "evil")}, ErrUnsafe, "a/precious"},
			"through one inside":    {lock, []member{dir("d", 0o755), link("a", "d"), file("a/x", "")}, ErrUnsafe, "a/x"},
			"through a chain":       {lock, []member{link("a", "b"), link("b", outside), file("a/x", "")}, ErrUnsafe, "a/x"},
			"through a hard link":   {lock, []member{link("a", outside), hard("b", "a"), file("b/x", "")}, ErrUnsafe, "b/x"},
			"directory via symlink": {lock, []member{link("a", outside), dir("a/b", 0o777)}, ErrUnsafe, "a/b"},
			"mode of a symlink":     {lock, []member{link("a", precious), dir("a", 0)}, ErrFormat, "a"},
			"node via symlink":      {lock, []member{link("a", outside), node1("a/fifo", tar.TypeFifo)}, ErrUnsafe, "a/fifo"},
			"hard link out":         {lock, []member{hard("a", "../precious")}, ErrUnsafe, "a"},
			"hard link absolute":    {lock, []member{hard("a", precious), file("a", "evil")}, ErrUnsafe, "a"},
			"hard link to nothing":  {lock, []member{hard("a", "b")}, ErrUnsafe, "a"},
			"hard link to later":    {lock, []member{hard("a", "b"), file("b", "")}, ErrUnsafe, "a"},
			"hard link via symlink": {lock, []member{link("a", outside), hard("b", "a/precious")}, ErrUnsafe, "b"},
			"hard link to a dir":    {lock, []member{dir("d", 0o755), hard("a", "d")}, ErrUnsafe, "a"},
			"hard link to the root": {lock, []member{hard("a", ".")}, ErrUnsafe, "a"},
			"hard link to itself":   {lock, []member{hard("a", "a")}, ErrUnsafe, "a"},
			"file as parent":        {lock, []member{file("a", ""), file("a/b", "")}, ErrFormat, "a/b"},
			"node as parent":        {lock, []member{node1("a", tar.TypeFifo), file("a/b", "")}, ErrFormat, "a/b"},
			"file over directory":   {lock, []member{dir("a", 0o755), file("a", "")}, ErrFormat, "a"},
			"link over directory":   {lock, []member{dir("a", 0o755), link("a", outside)}, ErrFormat, "a"},
			"hard over directory":   {lock, []member{file("f", ""), dir("a", 0o755), hard("a", "f")}, ErrFormat, "a"},
			"node over directory":   {lock, []member{dir("a", 0o755), node1("a", tar.TypeFifo)}, ErrFormat, "a"},
			"directory over file":   {lock, []member{file("a", ""), dir("a", 0o755)}, ErrFormat, "a"},
			"directory over node":   {lock, []member{node1("a", tar.TypeFifo), dir("a", 0o755)}, ErrFormat, "a"},
			"file over the root":    {lock, []member{file(".", "")}, ErrFormat, "."},
			"symlink over the root": {lock, []member{link("./", outside)}, ErrFormat, "./"},
			"empty link target":     {lock, []member{link("a", "")}, ErrFormat, "a"},
			"long part":             {lock, []member{file(strings.Repeat("x", 256), "")}, ErrTooBig, strings.Repeat("x", 256)},
			"long path":             {lock, []member{dir(strings.Repeat("x/", 2100), 0o755)}, ErrTooBig, strings.Repeat("x/", 2100)},
			"long target":           {lock, []member{link("a", strings.Repeat("x", 4096))}, ErrTooBig, "a"},
			"unknown type":          {lock, []member{node1("a", 'Z')}, ErrFormat, "a"},

			"lock file symlink":   {lock, []member{link(".ref", precious)}, ErrUnsafe, ".ref"},
			"lock file directory": {lock, []member{dir(".ref", 0o755)}, ErrUnsafe, ".ref"},
			"lock file node":      {lock, []member{dir("files", 0o755), file("metadata", ""), chr}, ErrUnsafe, "files/.ref"},
			"link to lock file":   {lock, []member{file(".ref", ""), hard("a", ".ref")}, ErrUnsafe, ".ref"},
			"lock file is a link": {lock, []member{file("files/a", ""), file("metadata", ""), hard("files/.ref", "files/a")}, ErrUnsafe, "files/.ref"},
			"link from beside":    {lock, []member{file("r/files/.ref", ""), file("r/metadata", ""), hard("r/x", "r/files/.ref")}, ErrUnsafe, "r/files/.ref"},
			"nested lock file":    {lock, []member{file("a", "x"), hard("d/.ref", "a")}, ErrUnsafe, "d/.ref"},
			"link to a nested":    {lock, []member{file("d/.ref", "x"), hard("a", "d/.ref")}, ErrUnsafe, "d/.ref"},
			"metadata is lock":    {lock, []member{file("files/.ref", ""), hard("metadata", "files/.ref")}, ErrUnsafe, "files/.ref"},

			"files is a symlink":     {lock, []member{file("metadata", ""), link("files", outside)}, ErrFormat, "files"},
			"files is a file":        {lock, []member{file("metadata", ""), file("files", "")}, ErrFormat, "files"},
			"files is a node":        {lock, []member{file("metadata", ""), node1("files", tar.TypeFifo)}, ErrFormat, "files"},
			"files alone, a symlink": {lock, []member{link("files", outside)}, ErrFormat, "files"},
			"files below, a symlink": {lock, []member{file("r/metadata", ""), link("r/files", outside)}, ErrFormat, "r/files"},
			"metadata is a symlink":  {lock, []member{file("files/a", ""), link("metadata", precious)}, ErrFormat, "metadata"},
			"metadata is a node":     {lock, []member{file("files/a", ""), node1("metadata", tar.TypeFifo)}, ErrFormat, "metadata"},
			"metadata is big":        {lock, []member{file("files/a", ""), file("metadata", strings.Repeat("x", maxMetadata+1))}, ErrTooBig, "metadata"},
			"global size":            {lock, []member{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"size": "5"}}}, file("a", "")}, ErrFormat, ""},
			"no members":             {lock, nil, ErrFormat, ""},
			"only the tree itself":   {lock, []member{dir(".", 0o755)}, ErrFormat, ""},

			"too many members": {Options{MaxMembers: 2}, []member{file("a", ""), file("b", ""), file("c", "")}, ErrTooBig, "c"},
			"too many bytes":   {Options{MaxSize: 10}, []member{file("a", "123456"), file("b", "12345")}, ErrTooBig, "b"},
		} {
			t.Run(name, func(t *testing.T) {
				before := snapshot(t, outside)
				_, at, err := unpack(t, pack(t, c.members...), c.opt)
				wantError(t, err, c.want, c.blame)
				compare(t, "outside", snapshot(t, outside), before)
				beside, err := os.ReadDir(filepath.Dir(at))
				if err != nil || len(beside) > 4 {
					t.Errorf("beside the destination: %v (%v)", beside, err)
				}
			})
		}
	})
}

// sign corrects the checksum of the header that an archive begins with.
func sign(archive []byte) {
	copy(archive[148:156], "        ")
	sum := 0
	for _, b := range archive[:blockSize] {
		sum += int(b)
	}
	copy(archive[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// TestSizes has sizes that are none, or more than there is.
func TestSizes(t *testing.T) {
	for name, c := range map[string]struct {
		field string // of twelve bytes
		kind  byte
		want  error
	}{
		"negative":                {strings.Repeat("\xff", 12), tar.TypeReg, ErrFormat},
		"least":                   {"\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\x00\x00", tar.TypeReg, ErrFormat},
		"greatest":                {"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", tar.TypeReg, ErrTooBig},
		"more than 64 bits":       {"\x80\xff" + strings.Repeat("\x00", 10), tar.TypeReg, ErrFormat},
		"octal":                   {"77777777777\x00", tar.TypeReg, ErrTooBig},
		"no number":               {"-1234567890\x00", tar.TypeReg, ErrFormat},
		"of a directory":          {"77777777777\x00", tar.TypeDir, nil},
		"of an extended header":   {"77777777777\x00", tar.TypeXHeader, ErrFormat},
		"of a GNU name":           {"77777777777\x00", tar.TypeGNULongName, ErrFormat},
		"negative, of a GNU name": {strings.Repeat("\xff", 12), tar.TypeGNULongName, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			m := file("a", "")
			m.Format, m.ModTime = tar.FormatGNU, time.Unix(0, 0)
			x := pack(t, m)
			copy(x[124:136], c.field)
			x[156] = c.kind
			sign(x)
			_, at, err := unpack(t, x, Options{MaxSize: 1 << 30})
			wantError(t, err, c.want, "")
			if s := du(t, at); s > 1<<20 {
				t.Errorf("%d bytes were written", s)
			}
		})
	}
}

// TestZeroBytes has names that archive/tar will not write.
func TestZeroBytes(t *testing.T) {
	record := func(s string) string {
		n := len(s) + 3
		for len(fmt.Sprint(n, " ", s, "\n")) != n {
			n++
		}
		return fmt.Sprint(n, " ", s, "\n")
	}
	for _, key := range []string{"path=a\x00b", "linkpath=a\x00b"} {
		x := pack(t, member{tar.Header{Typeflag: tar.TypeReg, Name: "x", ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}, record(key)})
		x[156] = 'x' // what was a file becomes the header of the next
		sign(x)
		_, _, err := unpack(t, slices.Concat(x[:1024], pack(t, link("b", "c"))), Options{})
		wantError(t, err, ErrFormat, "")
	}
	w := &writer{}
	err := w.member(&tar.Header{Typeflag: tar.TypeReg, Name: "a\x00"}, nil)
	wantError(t, err, ErrUnsafe, "")
	err = w.member(&tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "\x00"}, nil)
	wantError(t, err, ErrUnsafe, "")
}

func TestMessagesQuote(t *testing.T) {
	_, _, err := unpack(t, pack(t, link("a\x1b[31m", "x"), file("a\x1b[31m/b\n", "")), Options{})
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("%q", err)
	}
}

// TestNeverWritesThrough replaces a hard link's name: the other keeps its
// content.
func TestNeverWritesThrough(t *testing.T) {
	_, at := mustUnpack(t, Options{}, file("a", "first"), hard("b", "a"), file("b", "second"), link("c", "a"), file("c", "third"))
	for name, want := range map[string]string{"a": "first", "b": "second", "c": "third"} {
		if got, err := os.ReadFile(filepath.Join(at, "files", name)); err != nil || string(got) != want {
			t.Errorf("%s: %q (%v)", name, got, err)
		}
	}
}

func TestLockFile(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		opt := Options{LockFile: ".ref"}
		for name, members := range map[string][]member{
			"none there":        {dir(".", 0o555), file("a", ""), file("b", "")},
			"one with content":  {dir(".", 0o555), file(".ref", "content").with(func(h *tar.Header) { h.Mode = 0; h.ModTime = oldTime })},
			"once a hard link":  {file("a", ""), hard(".ref", "a"), file(".ref", "")},
			"once a link":       {link(".ref", "/etc/passwd"), file(".ref", "")},
			"in the shape":      {dir("files", 0o555), file("files/.ref", "x"), file("metadata", "m")},
			"another below":     {file("app/.ref", ""), hard("app/2", "app/.ref")},
			"of another name":   {file(".ref2", "x"), hard("2", ".ref2")},
			"one level further": {dir("r", 0), dir("r/files", 0o500), file("r/files/.ref", "x"), file("r/metadata", "m").with(func(h *tar.Header) { h.Mode = 0 })},
		} {
			t.Run(name, func(t *testing.T) {
				tree, at := mustUnpack(t, opt, members...)
				files := filepath.Join(at, "files")
				var st unix.Stat_t
				check(t, unix.Lstat(filepath.Join(files, ".ref"), &st))
				if st.Mode != unix.S_IFREG|0o644 || st.Nlink != 1 || st.Size != 0 {
					t.Errorf("mode %o, %d links, %d bytes", st.Mode, st.Nlink, st.Size)
				}
				agree(t, tree, files)
				check(t, unix.Lstat(files, &st))
				if st.Mtim.Nano() != someTime.UnixNano() {
					t.Errorf("time of the root: %d", st.Mtim.Nano())
				}
			})
		}
	})
	for _, bad := range []string{"a/b", "..", ".", "a\x00"} {
		if _, _, err := unpack(t, pack(t, file("a", "")), Options{LockFile: bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestDropped(t *testing.T) {
	xattrs := func(h *tar.Header) {
		h.PAXRecords = map[string]string{
			"SCHILY.xattr.user.kept":           "v",
			"SCHILY.xattr.security.capability": "x",
			"SCHILY.xattr.trusted.t":           "x",
			"SCHILY.xattr.security.selinux":    "label",
			"SCHILY.acl.access":                "user::rwx",
		}
	}
	mode := func(m int64) func(*tar.Header) { return func(h *tar.Header) { h.Mode = m } }
	tree, at := mustUnpack(t, Options{},
		file("suid", "x").with(mode(0o4755)), dir("sgid", 0o2775), file("both", "x").with(mode(0o6711)),
		file("attr", "x").with(xattrs),
		node1("chr", tar.TypeChar), node1("blk", tar.TypeBlock), node1("fifo", tar.TypeFifo), hard("fifo2", "fifo"),
		file("replaced", "x"), node1("replaced", tar.TypeFifo), node1("back", tar.TypeFifo), file("back", "x"),
	)
	if want := (Dropped{SetID: 3, Xattrs: 3, Nodes: 6}); tree.Dropped != want {
		t.Errorf("%+v, want %+v", tree.Dropped, want)
	}
	agree(t, tree, filepath.Join(at, "files"))
	var names []string
	for _, e := range tree.Entries {
		names = append(names, e.Path)
		if e.Mode&^0o1777 != 0 {
			t.Errorf("%s: %o", e.Path, e.Mode)
		}
	}
	if want := []string{".", "attr", "back", "both", "sgid", "suid"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

func TestDeep(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		var old unix.Rlimit
		check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
		limit := old
		limit.Cur = 130
		check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)

		var members []member
		for depth := 0; depth <= 200; depth += 50 {
			members = append(members, dir(strings.Repeat("d/", depth), 0o555), file(strings.Repeat("d/", depth)+"f", "x"))
		}
		members = append(members, file("d/d/back", "x"), hard("d/top", strings.Repeat("d/", 200)+"f"))
		longest := strings.Repeat(strings.Repeat("e", 19)+"/", 204) + strings.Repeat("f", 16)
		members = append(members, file(longest, "x"))
		d := scratch(t)
		tree, err := Unpack(t.Context(), bytes.NewReader(pack(t, members...)), d, Options{LockFile: ".ref"})
		check(t, err)
		if want := 1 + 200 + 5 + 2 + 205 + 1; len(tree.Entries) != want || len(longest) != 4096 {
			t.Errorf("%d entries, want %d", len(tree.Entries), want)
		}
		again, err := Copy(t.Context(), filepath.Join(d.Name(), "files"), scratch(t), Options{LockFile: ".ref"})
		check(t, err)
		if !slices.Equal(again.Entries, tree.Entries) {
			t.Error("the copy differs")
		}
	})
}
