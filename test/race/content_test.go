package race

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// builds are those of one version. They differ in every file, so that a forced
// installation shows.
var builds = []string{"one", "two"}

// applets are the names under which the programs of a version are called.
var applets = []string{"cat", "find", "grep", "sh", "sha256sum", "sleep", "wc"}

// members is the content of a build of a version, but for its program: what is
// in it follows from its name, so that whoever looks knows what to find.
func members(version, build string) map[string][]byte {
	var key [32]byte
	copy(key[:], version+" "+build)
	random := rand.NewChaCha8(key)
	found := map[string][]byte{"build": []byte(build + "\n")}
	for d := range 4 {
		for i := range 8 {
			content := make([]byte, 100+i*i*300)
			random.Read(content)
			found[fmt.Sprintf("lib/d%d/part%d", d, i)] = content
		}
	}
	big := make([]byte, 300<<10)
	random.Read(big)
	found["lib/big"] = big
	return found
}

// pack makes the archive of a build, and its digests as sha256sum(1) writes
// them, for those who look from inside.
func pack(t *testing.T, dir, name, version, build string) (archive string) {
	t.Helper()
	content := members(version, build)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("needs busybox: %v", err)
	}
	if content["bin/busybox"], err = os.ReadFile(busybox); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	when := time.Unix(1_600_000_000, 0)
	add := func(h tar.Header, content []byte) {
		h.Name, h.Size, h.ModTime = "files/"+h.Name, int64(len(content)), when
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	var sums strings.Builder
	for _, path := range slices.Sorted(maps.Keys(content)) {
		add(tar.Header{Name: path, Mode: 0o755}, content[path])
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content[path]), path)
	}
	for _, name := range applets {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, nil)
	}
	add(tar.Header{Name: "ext/.ref", Mode: 0o644}, nil) // an extension's own lock file
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	archive = filepath.Join(dir, build, fmt.Sprintf("%s-%s.tar", name, version))
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{
		archive: out.Bytes(),
		filepath.Join(dir, "sums", version+"-"+build): []byte(sums.String()),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return archive
}

// regular is how many regular files a version has, without lock files.
func regular() int { return len(members("", "")) + 1 }
