package store_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"berth/store"
	"berth/store/archive"
	"berth/store/source"
)

// Members without content count for nothing in the sum of sizes. A few kilobytes
// can have as many as they like, and are refused.
func TestInstallRefusesEndlessMembers(t *testing.T) {
	var member bytes.Buffer
	if err := tar.NewWriter(&member).WriteHeader(&tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "demo-1.0.tar.zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	const thousand = 1 << 10
	block := bytes.Repeat(member.Bytes(), thousand)
	for range 1<<20/thousand + 1 {
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := source.File(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	_, err = s.Install(t.Context(), a, store.InstallOptions{NoSync: true})
	if !errors.Is(err, archive.ErrTooBig) {
		t.Errorf("%v, want %v", err, archive.ErrTooBig)
	}
	wantClean(t, s)
}
