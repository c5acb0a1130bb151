package chunked

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"
)

// The table against a stream that says something else.
func TestContradiction(t *testing.T) {
	contents, rows := sample(t)
	extra := map[string]any{"type": "dir", "name": "more"}
	for name, c := range map[string]struct {
		change func(rows []map[string]any) []map[string]any
		member string
	}{
		"type":   {func(r []map[string]any) []map[string]any { r[linkRow]["type"] = "hardlink"; return r }, "d/link"},
		"target": {func(r []map[string]any) []map[string]any { r[linkRow]["linkName"] = "/etc/passwd"; return r }, "d/link"},
		"mode":   {func(r []map[string]any) []map[string]any { r[smallRow]["mode"] = 0o755; return r }, "d/small"},
		"owner":  {func(r []map[string]any) []map[string]any { r[smallRow]["uid"] = 1; return r }, "d/small"},
		"time":   {func(r []map[string]any) []map[string]any { delete(r[smallRow], "modtime"); return r }, "d/small"},
		"attributes": {func(r []map[string]any) []map[string]any {
			r[smallRow]["xattrs"] = map[string]any{"user.a": ""}
			return r
		}, "d/small"},
		"size":   {func(r []map[string]any) []map[string]any { r[smallRow]["size"] = 6; return r }, "d/small"},
		"digest": {func(r []map[string]any) []map[string]any { r[smallRow]["digest"] = r[bigRow]["digest"]; return r }, "d/small"},
		"name":   {func(r []map[string]any) []map[string]any { r[smallRow]["name"] = "d/Small"; return r }, "d/small"},
		"fewer":  {func(r []map[string]any) []map[string]any { return r[:linkRow] }, "d/link"},
		"more":   {func(r []map[string]any) []map[string]any { return append(r, extra) }, "more"},
	} {
		t.Run(name, func(t *testing.T) {
			rows := c.change(clone(rows))
			x, err := openBytes(seal(t, contents, tableOf(t, rows)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = x.Compare(untar(t, contents))
			var member *MemberError
			if !errors.As(err, &member) || member.Member != c.member {
				t.Fatalf("%v does not name %s", err, c.member)
			}
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrDigest) {
				t.Errorf("%v is of no kind", err)
			}
		})
	}
	t.Run("device", func(t *testing.T) {
		e := Entry{Type: tar.TypeChar, Devmajor: 1}
		mustBe(t, e.agrees(&tar.Header{Typeflag: tar.TypeChar, Devmajor: 2}), ErrFormat)
	})
	t.Run("twice in the stream", func(t *testing.T) {
		x := open(t, seal(t, contents, tableOf(t, clone(rows))))
		c := x.NewChecker()
		h := x.Entries()[0].Header()
		if _, err := c.Member(h); err != nil {
			t.Fatal(err)
		}
		_, err := c.Member(h)
		mustBe(t, err, ErrFormat)
	})
	t.Run("truncated stream", func(t *testing.T) {
		x := open(t, seal(t, contents, tableOf(t, clone(rows))))
		mustBe(t, x.Compare(untar(t, contents[:len(contents)-20])), io.ErrUnexpectedEOF)
		var plain bytes.Buffer
		w := tar.NewWriter(&plain)
		h := x.Entries()[0].Header()
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		plain.Truncate(300)
		mustBe(t, x.Compare(tar.NewReader(&plain)), io.ErrUnexpectedEOF)
	})
}
