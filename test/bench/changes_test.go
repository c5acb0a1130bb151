package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"maps"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// tarOf writes regular files; a name that is followed by ! is a minute younger,
// by + another mode.
func tarOf(t *testing.T, files ...[2]string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f[0], Size: int64(len(f[1])), Mode: 0o644, ModTime: time.Unix(1000, 0)}
		switch name := f[0][:len(f[0])-1]; f[0][len(f[0])-1] {
		case '!':
			h.Name, h.ModTime = name, time.Unix(1060, 0)
		case '+':
			h.Name, h.Mode = name, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "link", Linkname: files[0][0]}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestChanged(t *testing.T) {
	older := tarOf(t, [2]string{"same", "1"}, [2]string{"content", "22"}, [2]string{"time", "333"}, [2]string{"mode", "4444"},
		[2]string{"moved", "55555"})
	newer := tarOf(t, [2]string{"./same", "1"}, [2]string{"content", "xx"}, [2]string{"time!", "333"}, [2]string{"mode+", "4444"},
		[2]string{"moved-here", "55555"}, [2]string{"new", "666666"}, [2]string{"empty", ""})
	got, err := changed(older, newer)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"content": 2, "time": 3, "mode": 4, "new": 6}
	if !maps.Equal(got, want) {
		t.Errorf("changed %v, want %v", got, want)
	}
}

func TestChangedReportsABrokenArchive(t *testing.T) {
	whole := tarOf(t, [2]string{"a", string(make([]byte, 1000))})
	if _, err := changed(bytes.NewReader(whole.Bytes()[:700]), whole); err == nil {
		t.Error("no error")
	}
}

func TestStoredSizes(t *testing.T) {
	table := `{"version":1,"entries":[{"type":"dir","name":"d/"},
		{"type":"reg","name":"./d/a","offset":100,"endOffset":150},
		{"type":"chunk","name":"d/a","offset":120,"chunkOffset":7},
		{"type":"reg","name":"empty"},{"type":"symlink","name":"s","linkName":"a"}]}`
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	const before = 160
	archive := make([]byte, before)
	archive = encoder.EncodeAll([]byte(table), archive)
	length := len(archive) - before
	footer := make([]byte, 64)
	binary.LittleEndian.PutUint64(footer, before)
	binary.LittleEndian.PutUint64(footer[8:], uint64(length))
	copy(footer[56:], "GNUlInUx")
	archive = append(archive, footer...)

	got, err := storedSizes(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int64{"d/a": 50, "empty": 0}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := storedSizes(bytes.NewReader(archive[:len(archive)-1]), int64(len(archive)-1)); err == nil {
		t.Error("no error without a footer")
	}
}
