package test

import (
	archivetar "archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A hostile archive fails the installation: the member is named, nothing is
// published, nothing is left, and nothing outside has changed.
func TestHostileArchives(t *testing.T) {
	member := func(kind byte, name, link string) archivetar.Header {
		return archivetar.Header{Typeflag: kind, Name: name, Linkname: link, Mode: 0o644, ModTime: time.Unix(1600000000, 0)}
	}
	file := func(name string) archivetar.Header { return member(archivetar.TypeReg, name, "") }
	dir := func(name string) archivetar.Header { return member(archivetar.TypeDir, name+"/", "") }
	link := func(name, to string) archivetar.Header { return member(archivetar.TypeSymlink, name, to) }
	hard := func(name, to string) archivetar.Header { return member(archivetar.TypeLink, name, to) }
	for what, c := range map[string]struct {
		members []archivetar.Header
		names   string // what the message has
	}{
		"dot-dot":                        {[]archivetar.Header{file("a/../../out")}, `"a/../../out"`},
		"absolute":                       {[]archivetar.Header{file("/tmp/out")}, `"/tmp/out"`},
		"symlink, then written through":  {[]archivetar.Header{link("l", "/tmp"), file("l/out")}, `"l/out"`},
		"symlink to itself":              {[]archivetar.Header{link("l", "l"), file("l/out")}, `"l/out"`},
		"hard link out":                  {[]archivetar.Header{hard("h", "../../../store.toml")}, `"h"`},
		"hard link to what is not there": {[]archivetar.Header{hard("h", "etc/passwd")}, `"h"`},
		"hard link through a symlink":    {[]archivetar.Header{link("l", "/etc"), hard("h", "l/passwd")}, `"h"`},
		"directory where a file was":     {[]archivetar.Header{file("a"), dir("a")}, `"a/"`},
		"file where a directory was":     {[]archivetar.Header{dir("a"), file("a")}, `"a"`},
		"file below a file":              {[]archivetar.Header{file("a"), file("a/b")}, `"a/b"`},
		"files is a symlink":             {[]archivetar.Header{link("files", "/etc"), file("metadata")}, `"files"`},
		"files is a file":                {[]archivetar.Header{file("files"), file("metadata")}, `"files"`},
		".ref is a symlink":              {[]archivetar.Header{dir("files"), link("files/.ref", "/etc/passwd"), file("metadata")}, `"files/.ref"`},
		".ref is a directory":            {[]archivetar.Header{dir("files/.ref"), file("metadata")}, `"files/.ref"`},
		".ref is a fifo":                 {[]archivetar.Header{dir("files"), member(archivetar.TypeFifo, "files/.ref", ""), file("metadata")}, `"files/.ref"`},
		".ref is a device":               {[]archivetar.Header{dir("files"), member(archivetar.TypeChar, "files/.ref", ""), file("metadata")}, `"files/.ref"`},
		".ref is a hard link":            {[]archivetar.Header{file("files/a"), hard("files/.ref", "files/a"), file("metadata")}, `"files/.ref"`},
		"a name of 256 bytes":            {[]archivetar.Header{file(strings.Repeat("n", 256))}, "256 bytes"},
		"a path of 5,000 bytes":          {[]archivetar.Header{file(strings.Repeat("d/", 2500) + "f")}, "5001 bytes"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.install("1.0")
			var b bytes.Buffer
			out := archivetar.NewWriter(&b)
			for _, h := range c.members {
				if h.Typeflag == archivetar.TypeReg {
					h.Size = 2
				}
				if err := out.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Typeflag == archivetar.TypeReg {
					if _, err := io.WriteString(out, "x\n"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			archive := w.write("demo-6.tar", b.String())
			before := listing(t, w.dir)
			r := w.must(65, "install", archive)
			if !strings.Contains(r.stderr, c.names) {
				t.Errorf("it does not name %s: %s", c.names, r.stderr)
			}
			for line := range strings.Lines(listing(t, w.dir)) {
				if !strings.Contains(before, line) {
					t.Errorf("changed: %s", line)
				}
			}
			if _, err := os.Lstat("/tmp/out"); err == nil {
				t.Error("/tmp/out is there")
			}
		})
	}
}

// Strange names are no attack: they are kept, and everything reads them.
func TestStrangeNames(t *testing.T) {
	w := newWorld(t)
	tree := w.path("tree", "files")
	deep := filepath.Join(tree, strings.Repeat("d/", 200))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new\nline", "glob*?[x]", "not\xffutf8", "sp ace", "back\\slash", strings.Repeat("n", 255), "\x1b[31mred"} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, when := range map[string]time.Time{"before 1970": time.Unix(-86400*365*20, 5), "after 2038": time.Unix(1<<32, 7)} {
		path := filepath.Join(tree, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	tarFile := w.path("demo-1.tar")
	tar(t, "--format=posix", "-cf", tarFile, "-C", w.path("tree"), "files")
	w.must(0, "install", tarFile)
	w.must(0, "verify", "demo")
	if out, err := exec.Command("sh", "-c", `zcat "$0/../manifest.mtree.gz" | mtree -p "$0"`, w.files("demo@1")).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mtree: %v\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(w.files("demo@1"), "\x1b[31mred")); err != nil {
		t.Fatal(err)
	}
	if r := w.must(65, "verify", "demo"); strings.ContainsRune(r.stdout+r.stderr, '\x1b') {
		t.Errorf("an escape sequence reaches the terminal: %q", r.stdout+r.stderr)
	}
	w.must(0, "remove", "demo@1")
}

// listing describes everything below a directory, but for times of directories.
func listing(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cd "$0" && find . -printf '%p %y %m %s %n %l\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum`, dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
