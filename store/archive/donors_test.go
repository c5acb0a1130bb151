package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/store/manifest"
)

// donorOf is what an unpacked tree is for the next one.
func donorOf(t testing.TB, tree *Tree, at string) Donor {
	t.Helper()
	f, err := os.Open(filepath.Join(at, "files"))
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return Donor{f, func(yield func(manifest.Entry, error) bool) {
		for _, e := range tree.Entries {
			if !yield(e, nil) {
				return
			}
		}
	}}
}

func inodeOf(t testing.TB, path string) id {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Lstat(path, &st))
	return idOf(&st)
}

func withMode(mode int64) func(*tar.Header)     { return func(h *tar.Header) { h.Mode = mode } }
func withTime(when time.Time) func(*tar.Header) { return func(h *tar.Header) { h.ModTime = when } }
func withAttr(key, value string) func(*tar.Header) {
	return func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + key: value} }
}

// Files are shared when content, mode, time and user.* attributes agree, and
// with donors or without the tree is the same.
func TestDonors(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		large := noise(3*largeBlock + 5)
		old, oldAt := mustUnpack(t, Options{LockFile: ".ref"},
			file("same", "same"), file("moved", "moved"), file("content", "1"), file("mode", "m"), file("time", "t"),
			file("attr", "a").with(withAttr("user.a", "1")), file("attr-same", "b").with(withAttr("user.a", "1")), file("attr-none", "c"),
			file("empty", ""), file("d/.ref", "lock"), file("closed", "closed").with(withMode(0)),
			file("large", large), file("large-end", large+"x"), file("large-middle", large+"y"),
			file("sparse", strings.Repeat("\x00", 2*largeBlock)),
			file("twin", "twin"), file("g1", "group"), hard("g2", "g1"), link("link", "same"),
		)
		next := []member{
			file("same", "same"), file("d/moved-to", "moved"), file("content", "2"), file("mode", "m").with(withMode(0o755)),
			file("time", "t").with(withTime(oldTime)), file("attr", "a").with(withAttr("user.a", "2")),
			file("attr-same", "b").with(withAttr("user.a", "1")), file("attr-none", "c").with(withAttr("user.b", "")),
			file("empty", ""), file("d/.ref", "lock"), file("closed", "closed").with(withMode(0)),
			file("large", large), file("large-end", large+"z"), file("large-middle", large[:largeBlock+7]+"?"+large[largeBlock+8:]+"y"),
			file("sparse", strings.Repeat("\x00", 2*largeBlock)),
			file("twin", "twin"), file("twin-too", "twin"), file("g1", "group"), hard("g2", "g1"), file("g3", "group"), link("link", "same"),
		}
		for _, verify := range []bool{false, true} {
			tree, at := mustUnpack(t, Options{LockFile: ".ref", Donors: []Donor{donorOf(t, old, oldAt)}, VerifyDonors: verify}, next...)
			agree(t, tree, filepath.Join(at, "files"))
			_, plainAt := mustUnpack(t, Options{LockFile: ".ref"}, next...)
			compare(t, "with donors", snapshot(t, filepath.Join(at, "files")), snapshot(t, filepath.Join(plainAt, "files")))

			shared := map[string]string{"same": "same", "d/moved-to": "moved", "attr-same": "attr-same", "large": "large", "sparse": "sparse"}
			from := map[id]string{}
			for _, e := range old.Entries {
				if e.Type == manifest.File {
					from[inodeOf(t, filepath.Join(oldAt, "files", e.Path))] = e.Path
				}
			}
			for _, e := range tree.Entries {
				if e.Type != manifest.File || strings.HasPrefix(e.Path, "twin") || strings.HasPrefix(e.Path, "g") {
					continue
				}
				if got := from[inodeOf(t, filepath.Join(at, "files", e.Path))]; got != shared[e.Path] {
					t.Errorf("%s is shared with %q, want %q", e.Path, got, shared[e.Path])
				}
			}
			// Two files of the archive stay two, whichever of them is linked.
			if inodeOf(t, at+"/files/twin") == inodeOf(t, at+"/files/twin-too") || inodeOf(t, at+"/files/g1") == inodeOf(t, at+"/files/g3") {
				t.Error("two files have become one")
			}
			if inodeOf(t, at+"/files/g1") != inodeOf(t, at+"/files/g2") {
				t.Error("a link group has been parted")
			}
			reused := int64(len("same") + len("moved") + len("b") + len(large) + 2*largeBlock + len("twin") + len("group"))
			if tree.Reused != reused || tree.ReusedFiles != 7 || len(tree.Changed) > 0 {
				t.Errorf("reused %d bytes in %d files, want %d in 7; changed %q", tree.Reused, tree.ReusedFiles, reused, tree.Changed)
			}
		}
		agree(t, old, filepath.Join(oldAt, "files"))
	})
}

// A donor's file that is not what its manifest says is reported, not used.
// A lock file further down is an inode of its own, and so is what is one inode
// with a lock file of a donor: two that can be locked would be one lock.
func TestDonorsOfLockFiles(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		opt := Options{LockFile: ".ref"}
		old, at := mustUnpack(t, opt, file("a", "x"), file("b", "y"), dir("d", 0o755), file("d/.ref", "y"))
		opt.Donors = []Donor{donorOf(t, old, at)}
		tree, _ := mustUnpack(t, opt, file("a", "x"), file("b", "y"), dir("d", 0o755), file("d/.ref", "x"))
		if tree.ReusedFiles != 1 || tree.Reused != 1 {
			t.Errorf("%d files are shared", tree.ReusedFiles) // a, and neither b nor d/.ref
		}
	})
}

func TestDonorsThatWereChanged(t *testing.T) {
	large := noise(largeBlock + 5)
	members := []member{file("a", "aaaa"), file("b", "bbbb"), file("large", large), file("larger", large+"!"), file("gone", "gone"), file("kept", "kept")}
	for _, verify := range []bool{false, true} {
		old, oldAt := mustUnpack(t, Options{}, members...)
		change := func(name, content string, when time.Time) {
			path := filepath.Join(oldAt, "files", name)
			check(t, os.WriteFile(path, []byte(content), 0o644))
			check(t, os.Chtimes(path, when, when))
		}
		change("a", "????", someTime) // which only its content shows
		change("b", "bbbb", oldTime)
		change("large", large[1:]+"?", someTime)
		change("larger", large, someTime)
		check(t, os.Remove(filepath.Join(oldAt, "files", "gone")))
		tree, at := mustUnpack(t, Options{Donors: []Donor{donorOf(t, old, oldAt)}, VerifyDonors: verify}, members...)
		told := members
		if !verify {
			told = members[1:] // the content of small files is taken on trust
		}
		for _, m := range told {
			if b, err := os.ReadFile(filepath.Join(at, "files", m.Name)); err != nil || string(b) != m.content {
				t.Errorf("%s: %v", m.Name, err)
			}
		}
		want := []string{"b", "gone", "larger"}
		if verify {
			want = []string{"a", "b", "gone", "larger"}
		}
		var got []string
		for _, path := range tree.Changed {
			got = append(got, filepath.Base(path))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("verify %v: reported %q, want %q", verify, got, want)
		}
	}
}

// A manifest that cannot be read to its end is no reason to fail.
func TestDonorsBrokenManifest(t *testing.T) {
	old, oldAt := mustUnpack(t, Options{}, file("a", "a"), file("b", "b"))
	donor := donorOf(t, old, oldAt)
	entries := donor.Entries
	donor.Entries = func(yield func(manifest.Entry, error) bool) {
		for e := range entries {
			if e.Path == "b" {
				yield(e, errors.New("cut"))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
	tree, _ := mustUnpack(t, Options{Donors: []Donor{donor}}, file("a", "a"), file("b", "b"))
	if tree.ReusedFiles != 1 || len(tree.Changed) != 1 || !strings.Contains(tree.Changed[0], "cut") {
		t.Errorf("%d reused, %q", tree.ReusedFiles, tree.Changed)
	}
}

// An inode that cannot take one more name is copied. ext4 has room for 65,000.
func TestDonorsTooManyLinks(t *testing.T) {
	old, oldAt := mustUnpack(t, Options{}, file("a", "full"))
	names := t.TempDir()
	for i := 0; ; i++ {
		err := os.Link(oldAt+"/files/a", fmt.Sprintf("%s/%d", names, i))
		if errors.Is(err, unix.EMLINK) {
			break
		}
		check(t, err)
		if i > 1<<20 {
			t.Fatal("needs a file system with a bound on links below $TMPDIR")
		}
	}
	tree, at := mustUnpack(t, Options{Donors: []Donor{donorOf(t, old, oldAt)}}, file("a", "full"))
	if tree.ReusedFiles != 0 || inodeOf(t, at+"/files/a") == inodeOf(t, oldAt+"/files/a") {
		t.Error("linked")
	}
}

// The metadata file is copied from a member, whose inode may be a donor's.
func TestDonorsOfMetadata(t *testing.T) {
	old, oldAt := mustUnpack(t, Options{}, file("x", "[Runtime]\n"))
	tree, at := mustUnpack(t, Options{Donors: []Donor{donorOf(t, old, oldAt)}}, file("files/y", "y"), file("metadata", "[Runtime]\n"))
	if string(tree.Metadata) != "[Runtime]\n" || inodeOf(t, at+"/metadata") == inodeOf(t, oldAt+"/files/x") {
		t.Errorf("metadata %q, or it is shared", tree.Metadata)
	}
	agree(t, old, filepath.Join(oldAt, "files"))
}

// BenchmarkDonors unpacks a tree that is all there already.
func BenchmarkDonors(b *testing.B) {
	var members []member
	for i := range 2000 {
		members = append(members, file(fmt.Sprintf("d%02d/file%04d", i%50, i), noise(16 << 10)[i:]))
	}
	archive := pack(b, members...)
	tree, at := mustUnpack(b, Options{}, members...)
	for name, opt := range map[string]Options{"written": {}, "linked": {Donors: []Donor{donorOf(b, tree, at)}}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(archive)))
			for b.Loop() {
				b.StopTimer()
				d := scratch(b)
				b.StartTimer()
				if _, err := Unpack(b.Context(), bytes.NewReader(archive), d, opt); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
