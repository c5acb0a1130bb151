package manifest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOtherPrograms has bsdtar list, and mtree check, a tree of nasty names.
func TestOtherPrograms(t *testing.T) {
	for _, program := range []string{"bsdtar", "mtree"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("needs %s", program)
		}
	}
	top := t.TempDir()
	names := []string{"...", "a..b", "..a", "-", "*x", "?", "[a]", "[", "[x-z]y", `\`, `\052`, `a\*`, " ", "#", "a b", "x=y",
		"new\nline", strings.Repeat("n", 254), "~", "äöü", "\xff\xfe"}
	for c := 1; c < 256; c++ {
		if c == '/' {
			continue
		}
		names = append(names, "a"+string([]byte{byte(c)})+"b", string([]byte{byte(c)})+"end", "start"+string([]byte{byte(c)}))
	}
	// Two that match each other are beyond mtree: see the package's comment.
	names = slices.DeleteFunc(names, func(s string) bool { return s == "?end" || s == "a?b" || s == "start?" })
	slices.Sort(names)
	names = slices.Compact(names)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range names {
		must(os.WriteFile(filepath.Join(top, n), []byte(n), 0o644))
		at := filepath.Join(top, "dirs", n+"d")
		must(os.MkdirAll(at, 0o755))
		must(os.Symlink(n, filepath.Join(at, "link")))
		must(os.WriteFile(filepath.Join(at, "*"), nil, os.FileMode(i)&0o777))
	}
	for i, s := range []float64{-1.5, -1e8, 0, 1 << 33, 1.000000007} {
		p := filepath.Join(top, fmt.Sprintf("time%d", i))
		must(os.WriteFile(p, nil, 0o644))
		when := time.Unix(0, 0).Add(time.Duration(s * 1e9))
		must(os.Chtimes(p, when, when))
	}
	must(os.Chmod(filepath.Join(top, "-"), 0))
	must(os.Chmod(filepath.Join(top, "~"), 0o1555))
	must(os.Chmod(filepath.Join(top, "dirs", "...d"), os.ModeSticky|0o777))
	must(os.Chmod(filepath.Join(top, "dirs", " d"), 0o555))

	all := scan(t, top)
	manifest := filepath.Join(t.TempDir(), "manifest.mtree.gz")
	must(os.WriteFile(manifest, pack(t, all), 0o644))

	out, err := exec.Command("sh", "-c", `zcat "$0" | mtree -p "$1"`, manifest, top).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("mtree: %v\n%q", err, out)
	}

	// The listing escapes; a tar archive made of the manifest has the names as
	// they are.
	cmd := exec.Command("/usr/bin/python3", "-c", `
import subprocess, sys
out = subprocess.run(["bsdtar", "-cf-", "--format=pax", "@" + sys.argv[1]], cwd=sys.argv[2], stdout=subprocess.PIPE, check=True).stdout
import io, tarfile
for m in tarfile.open(fileobj=io.BytesIO(out), encoding="utf-8", errors="surrogateescape"):
    sys.stdout.buffer.write(m.name.encode("utf-8", "surrogateescape") + b"\0" + m.linkname.encode("utf-8", "surrogateescape") + b"\0")
`, manifest, top)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	if err != nil {
		t.Fatalf("bsdtar: %v\n%s", err, stderr.Bytes())
	}
	fields := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	got := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		p := strings.TrimPrefix(strings.TrimSuffix(fields[i], "/"), "./")
		got[p] = fields[i+1]
	}
	for _, e := range all {
		if link, ok := got[e.Path]; !ok || link != e.Link {
			t.Errorf("bsdtar read %q as link to %q (%v), want %q", e.Path, link, ok, e.Link)
		}
	}
	if len(got) != len(all) {
		t.Errorf("bsdtar read %d members of %d", len(got), len(all))
	}

	list, err := exec.Command("bsdtar", "-tf", manifest).CombinedOutput()
	if err != nil || bytes.Count(list, []byte("\n")) != len(all) {
		t.Errorf("bsdtar -t: %v, %d lines for %d members", err, bytes.Count(list, []byte("\n")), len(all))
	}
}

// scan describes a tree on disk.
func scan(t *testing.T, top string) []Entry {
	t.Helper()
	var all []Entry
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, p)
		e := Entry{Path: rel, Mode: st.Mode & 0o7777, Time: time.Unix(st.Mtim.Unix()).UTC()}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			e.Type = Dir
		case unix.S_IFLNK:
			e.Type = Link
			e.Link, err = os.Readlink(p)
		default:
			e.Type, e.Size = File, st.Size
			var b []byte
			b, err = os.ReadFile(p)
			e.Digest = sha256.Sum256(b)
		}
		all = append(all, e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	return all
}
