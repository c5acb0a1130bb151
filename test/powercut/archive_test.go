package powercut

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// archive makes the archive of a version, or finds it if it was made before.
// Two builds of one version differ in every file.
func archive(t *testing.T, dir, version, build string) string {
	t.Helper()
	path := filepath.Join(dir, build, fmt.Sprintf("%s-%s.tar", name, version))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	when := time.Unix(1_600_000_000, 0)
	add := func(h tar.Header, content []byte) {
		h.Name, h.Size, h.ModTime = "files/"+h.Name, int64(len(content)), when
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	directory := func(name string) { add(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil) }

	var key [32]byte
	copy(key[:], version+" "+build)
	random := rand.NewChaCha8(key)
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		random.Read(b)
		return b
	}
	add(tar.Header{Name: "build"}, []byte(build))
	directory("bin")
	add(tar.Header{Name: "bin/big", Mode: 0o755}, bytesOf(2<<20))
	add(tar.Header{Name: "bin/same", Mode: 0o755, Typeflag: tar.TypeLink, Linkname: "files/bin/big"}, nil)
	directory("lib")
	for d := range 4 {
		sub := fmt.Sprintf("lib/d%d", d)
		directory(sub)
		for i := range 10 {
			add(tar.Header{Name: fmt.Sprintf("%s/part%d", sub, i)}, bytesOf(200+i*1500))
		}
		add(tar.Header{Name: sub + "/link", Typeflag: tar.TypeSymlink, Linkname: "part0"}, nil)
	}
	add(tar.Header{Name: "lib/empty"}, nil)
	directory("ext")
	add(tar.Header{Name: "ext/.ref"}, nil) // an extension's own lock file
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
