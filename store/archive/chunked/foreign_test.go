package chunked

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The archives in testdata have been made of the same tar archive: one by
// "skopeo copy --dest-compress-format zstd:chunked" of Debian 12, with the
// footer of 40 bytes, the others by the compressor of containers/storage, with
// a tar-split and the footer of 56 bytes, and of 64. The digests are those of
// the annotation manifest-checksum.
var foreign = map[string]string{
	"skopeo-1.9.3.tar.zst":              "1fbecc21105f739b21c6dbfbe2200589bf94829fbbe610def0341b8eace939bc",
	"containers-storage-1.49.0.tar.zst": "6d18bc0b528e9671d5ee804aef508b90b048ec5dac465c877e70c5151982d2e7",
	"containers-storage-1.59.1.tar.zst": "f7d2c04795034bcbdc6089ddbb1e092d01c28b5a32d2999007e21fafdccc4f87",
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

type foreignMember struct {
	kind    byte
	name    string
	content string
	link    string
	mode    int64
}

var foreignMembers = []foreignMember{
	{tar.TypeDir, "files/", "", "", 0o755},
	{tar.TypeReg, "files/empty", "", "", 0o644},
	{tar.TypeReg, "files/hello", "hello, world\n", "", 0o644},
	{tar.TypeReg, "files/big", lines(0, 5000) + strings.Repeat("\x00", 20000) + lines(5000, 6000), "", 0o644},
	{tar.TypeReg, "files/zeros", strings.Repeat("\x00", 30000), "", 0o644},
	{tar.TypeReg, "files/ü name \U0001f600 " + strings.Repeat("x", 120), "long\n", "", 0o644},
	{tar.TypeSymlink, "files/link", "", "hello", 0o777},
	{tar.TypeLink, "files/hard", "", "files/hello", 0o644},
	{tar.TypeReg, "files/attr", "attr\n", "", 0o644},
	{tar.TypeFifo, "files/fifo", "", "", 0o644},
	{tar.TypeReg, "metadata", "[Runtime]\nname=org.example.Fixture\nruntime=org.example.Fixture/x86_64/1.0\n", "", 0o644},
}

func TestForeignArchives(t *testing.T) {
	for file, checksum := range foreign {
		t.Run(file, func(t *testing.T) {
			b, err := os.ReadFile("testdata/" + file)
			if err != nil {
				t.Fatal(err)
			}
			want := Digest(unhex(t, checksum))
			x, err := Open(bytes.NewReader(b), int64(len(b)), Options{Digest: &want})
			if err != nil {
				t.Fatal(err)
			}
			if x.Digest() != want {
				t.Error("another digest than the annotation")
			}
			if len(x.Entries()) != len(foreignMembers) {
				t.Fatalf("%d entries, not %d", len(x.Entries()), len(foreignMembers))
			}
			for i, m := range foreignMembers {
				checkForeign(t, x, x.Entries()[i], m)
			}
			if err := x.Compare(untar(t, b)); err != nil {
				t.Error(err)
			}
			if big := x.Entries()[3]; len(big.chunks) < 3 || !big.chunks[1].zeros {
				t.Errorf("the fixture's big file should have a chunk of zeros: %+v", big.chunks)
			}
		})
	}
}

func checkForeign(t *testing.T, x *Index, e *Entry, m foreignMember) {
	t.Helper()
	if e.Type != m.kind || e.Name != m.name || e.Linkname != m.link || e.Mode != m.mode || e.Size != int64(len(m.content)) {
		t.Errorf("%+v is not %+v", e, m)
	}
	at := time.Unix(1600000000, 0)
	if m.name == "files/hello" {
		at = at.Add(250 * time.Millisecond)
	}
	if !e.ModTime.Equal(at) {
		t.Errorf("%s: %s", e.Name, e.ModTime)
	}
	var attrs map[string]string
	if m.name == "files/attr" {
		attrs = map[string]string{"user.colour": "grün"}
	}
	if !maps.Equal(e.Xattrs, attrs) {
		t.Errorf("%s: attributes %q", e.Name, e.Xattrs)
	}
	if e.Type != tar.TypeReg {
		return
	}
	if e.Digest != sha256.Sum256([]byte(m.content)) {
		t.Errorf("%s: digest %x", e.Name, e.Digest)
	}
	r, err := x.Content(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != m.content {
		t.Errorf("%s: %d bytes, %v", e.Name, len(got), err)
	}
}

func TestWantedDigest(t *testing.T) {
	b := readFile(t, "testdata/skopeo-1.9.3.tar.zst")
	other := sha256.Sum256([]byte("other"))
	_, err := Open(bytes.NewReader(b), int64(len(b)), Options{Digest: &other})
	mustBe(t, err, ErrDigest)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// untar reads an archive as any .tar.zst.
func untar(t testing.TB, archive []byte) *tar.Reader {
	t.Helper()
	d, err := zstd.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return tar.NewReader(d)
}
