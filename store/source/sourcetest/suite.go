// Package sourcetest is the conformance test of channels: whatever kind of
// source.Channel there is, a user of it must be able to rely on this.
package sourcetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"berth/store/source"
)

// Run tests a kind of channel. offer makes one that has the files given, by
// name, among them the SHA256SUMS; nil files make one that cannot be asked.
func Run(t *testing.T, offer func(t *testing.T, files map[string][]byte) source.Channel) {
	one, two := []byte("content of one"), []byte("content of two")

	t.Run("lists every version of the runtime, and of no other, once", func(t *testing.T) {
		c := offer(t, withSums(map[string][]byte{
			"demo-1.0.tar": one, "demo-1.0.tar.gz": two, "demo-2.0+b~1.tar.xz": two, "other-3.0.tar": one,
			"demo-extra-4.0.tar": one, "demo.tar": one, "demo-5.0.zip": one, "notes.txt": one,
		}))
		want(t, c, "demo", "1.0", "2.0+b~1")
		want(t, c, "demo-extra", "4.0")
		want(t, c, "nothing")
	})
	t.Run("prefers what is unpacked fastest", func(t *testing.T) {
		c := offer(t, withSums(map[string][]byte{
			"demo-1.tar": one, "demo-1.tar.bz2": one, "demo-1.tar.gz": one, "demo-1.tar.xz": one, "demo-1.tar.zst": two,
		}))
		if got := read(t, only(t, c)); string(got) != string(two) {
			t.Errorf("read %q", got)
		}
	})
	t.Run("an artifact says what it is", func(t *testing.T) {
		a := only(t, offer(t, withSums(map[string][]byte{"demo-1.tar": one})))
		if a.Name != "demo" || a.Version != "1" || a.Digest != sum(one) || a.Origin == "" || a.Directory != "" {
			t.Errorf("%+v", a)
		}
		if a.Size >= 0 && a.Size != int64(len(one)) {
			t.Errorf("the size is %d", a.Size)
		}
		for range 2 { // as often as one likes
			if got := read(t, a); string(got) != string(one) {
				t.Errorf("read %q", got)
			}
		}
	})
	t.Run("another content is found when it is read", func(t *testing.T) {
		for name, content := range map[string][]byte{
			"other": []byte("CONTENT of one"), "longer": append(slices.Clone(one), 'x'), "shorter": one[:5], "empty": nil,
		} {
			files := withSums(map[string][]byte{"demo-1.tar": one})
			files["demo-1.tar"] = content
			r, err := only(t, offer(t, files)).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(r); !errors.Is(err, source.ErrDigest) {
				t.Errorf("%s: read to the end with %v", name, err)
			}
			if n, err := r.Read(make([]byte, 8)); n > 0 || !errors.Is(err, source.ErrDigest) {
				t.Errorf("%s: once more: %d, %v", name, n, err)
			}
			r.Close()
		}
	})
	t.Run("what has no digest is not on offer", func(t *testing.T) {
		files := withSums(map[string][]byte{"demo-1.tar": one})
		files["demo-2.tar"] = two
		want(t, offer(t, files), "demo", "1")
		for name, sums := range map[string][]byte{
			"another name": []byte(hex(one) + "  x/demo-1.tar\n"), "nonsense": []byte("nonsense\n"), "too short": []byte("abcd  demo-1.tar\n"),
			"two digests": []byte(hex(one) + "  demo-1.tar\n" + hex(two) + "  demo-1.tar\n"),
		} {
			c := offer(t, map[string][]byte{"demo-1.tar": one, "SHA256SUMS": sums})
			if list, err := c.List(t.Context(), "demo"); !errors.Is(err, source.ErrDigest) {
				t.Errorf("%s: %v, %v", name, list, err)
			}
		}
		if list, err := offer(t, map[string][]byte{"demo-1.tar": one}).List(t.Context(), "demo"); !errors.Is(err, source.ErrDigest) {
			t.Errorf("no SHA256SUMS: %v, %v", list, err)
		}
	})
	t.Run("every form of SHA256SUMS", func(t *testing.T) {
		for name, line := range map[string]string{
			"text": "%s  demo-1.tar\n", "binary": "%s *demo-1.tar\n", "CR LF": "%s  demo-1.tar\r\n",
			"no newline": "%s  demo-1.tar", "a dot": "%s  ./demo-1.tar\n", "escaped": "\\%s  demo-1.tar\n", "comment": "# x\n\n%s  demo-1.tar\n",
		} {
			c := offer(t, map[string][]byte{"demo-1.tar": one, "SHA256SUMS": fmt.Appendf(nil, line, hex(one))})
			if list, err := c.List(t.Context(), "demo"); err != nil || len(list) != 1 {
				t.Errorf("%s: %v, %v", name, list, err)
			}
		}
	})
	t.Run("a channel that cannot be asked", func(t *testing.T) {
		if _, err := offer(t, nil).List(t.Context(), "demo"); !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a context that is over", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := offer(t, withSums(map[string][]byte{"demo-1.tar": one}))
		if _, err := c.List(ctx, "demo"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// withSums adds the SHA256SUMS of the files.
func withSums(files map[string][]byte) map[string][]byte {
	var sums []byte
	for name, content := range files {
		sums = fmt.Appendf(sums, "%s *%s\n", hex(content), name)
	}
	files["SHA256SUMS"] = sums
	return files
}

func hex(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

func sum(content []byte) string { return "sha256:" + hex(content) }

func want(t *testing.T, c source.Channel, name string, versions ...string) {
	t.Helper()
	list, err := c.List(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range list {
		got = append(got, a.Version)
	}
	slices.Sort(got)
	if !slices.Equal(got, versions) {
		t.Errorf("%s: listed are %q, want %q", name, got, versions)
	}
}

func only(t *testing.T, c source.Channel) source.Artifact {
	t.Helper()
	list, err := c.List(t.Context(), "demo")
	if err != nil || len(list) != 1 {
		t.Fatalf("listed are %v, %v", list, err)
	}
	return list[0]
}

func read(t *testing.T, a source.Artifact) []byte {
	t.Helper()
	r, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
