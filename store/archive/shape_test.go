package archive

import (
	"archive/tar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestShapes(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		closed := func(h *tar.Header) { h.Mode = 0 }
		for name, c := range map[string]struct {
			members  []member
			files    string // the entries
			metadata string
			beside   int
		}{
			"both": {[]member{dir("files", 0o555), file("files/a", "x"), file("metadata", "m").with(closed)}, ". a", "m", 0},
			"both, and others": {[]member{dir("./", 0), dir("./files", 0o555), file("./files/a", "x"), file("./metadata", "m"),
				dir("./x/y", 0o500), file("./x/y/z", ""), file("./w", ""), hard("./v", "./files/a"), node1("./fifo", tar.TypeFifo)}, ". a", "m", 3},
			"files alone":           {[]member{file("files/a", "x")}, ". a", "", 0},
			"files alone, and root": {[]member{dir(".", 0o700), dir("files/a", 0o555)}, ". a", "", 0},
			"one down": {[]member{dir("r", 0o500), dir("r/files", 0o555), file("r/files/a", "x"), file("r/metadata", "m"),
				file("r/beside", "")}, ". a", "m", 1},
			"metadata linked":        {[]member{file("files/a", "x"), hard("metadata", "files/a")}, ". a", "x", 0},
			"metadata empty":         {[]member{file("files/a", "x"), file("metadata", "")}, ". a", "", 0},
			"bare":                   {[]member{dir(".", 0o555), dir("bin", 0o555), file("bin/a", "x"), file("lib", "")}, ". bin bin/a lib", "", 0},
			"bare, with files":       {[]member{dir("files", 0o755), file("etc", "x")}, ". etc files", "", 0},
			"bare, with metadata":    {[]member{file("metadata", "x"), file("etc", "x")}, ". etc metadata", "", 0},
			"bare, both directories": {[]member{dir("files", 0o755), dir("metadata", 0o755)}, ". files metadata", "", 0},
			"bare, files a link":     {[]member{link("files", "x"), file("etc", "x")}, ". etc files", "", 0},
			"bare, one directory":    {[]member{dir("usr", 0o755), dir("usr/files", 0o755)}, ". usr usr/files", "", 0},
			"bare, two directories":  {[]member{dir("a/files", 0o755), file("a/metadata", ""), dir("b", 0o755)}, ". a a/files a/metadata b", "", 0},
			"two down":               {[]member{dir("a/b/files", 0o755), file("a/b/metadata", "")}, ". a a/b a/b/files a/b/metadata", "", 0},
			"nothing but a node":     {[]member{node1("a", tar.TypeFifo)}, ".", "", 0},
		} {
			t.Run(name, func(t *testing.T) {
				tree, at := mustUnpack(t, Options{}, c.members...)
				agree(t, tree, filepath.Join(at, "files"))
				var paths []string
				for _, e := range tree.Entries {
					paths = append(paths, e.Path)
				}
				if got := strings.Join(paths, " "); got != c.files {
					t.Errorf("entries %q, want %q", got, c.files)
				}
				if string(tree.Metadata) != c.metadata || tree.Dropped.Beside != c.beside {
					t.Errorf("metadata %q, beside %d", tree.Metadata, tree.Dropped.Beside)
				}
				there, err := os.ReadDir(at)
				check(t, err)
				want := []string{"files"}
				if tree.Metadata != nil {
					want = append(want, "metadata")
					var st unix.Stat_t
					check(t, unix.Lstat(filepath.Join(at, "metadata"), &st))
					if st.Mode != unix.S_IFREG|0o644 || st.Nlink != 1 || st.Mtim.Nano() != someTime.UnixNano() {
						t.Errorf("metadata: mode %o, %d links, time %d", st.Mode, st.Nlink, st.Mtim.Nano())
					}
					b, err := os.ReadFile(filepath.Join(at, "metadata"))
					if err != nil || string(b) != c.metadata {
						t.Errorf("metadata on disk: %q (%v)", b, err)
					}
				}
				var names []string
				for _, d := range there {
					names = append(names, d.Name())
				}
				if !slices.Equal(names, want) {
					t.Errorf("destination has %q", names)
				}
			})
		}
	})
}

func TestMetadataThatIsEmptyIsThere(t *testing.T) {
	tree, _ := mustUnpack(t, Options{}, file("files/a", "x"), file("metadata", ""))
	if tree.Metadata == nil {
		t.Error("nil")
	}
}

// TestImpliedDirectories sees to it that the same archive gives the same tree.
func TestImpliedDirectories(t *testing.T) {
	tree, at := mustUnpack(t, Options{LockFile: ".ref"}, file("a/b/c", "x").with(func(h *tar.Header) { h.ModTime = oldTime }), file("d", "x"))
	agree(t, tree, filepath.Join(at, "files"))
	for _, e := range tree.Entries {
		if e.Path == "." || e.Path == "a" || e.Path == "a/b" {
			if e.Mode != 0o755 || !e.Time.Equal(someTime) {
				t.Errorf("%s: %o %v", e.Path, e.Mode, e.Time)
			}
		}
	}
}
