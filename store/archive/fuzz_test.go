package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// unpackForFuzz unpacks beside a directory that must stay as it is, and
// compares what came of it with what Unpack says.
func unpackForFuzz(t *testing.T, archive []byte) {
	t.Helper()
	top := scratch(t)
	outside := filepath.Join(top.Name(), "outside")
	check(t, os.MkdirAll(filepath.Join(outside, "dir"), 0o755))
	check(t, os.WriteFile(filepath.Join(outside, "file"), []byte("mine"), 0o644))
	before := snapshot(t, outside)
	check(t, os.Mkdir(filepath.Join(top.Name(), "in"), 0o755))
	dst, err := os.Open(filepath.Join(top.Name(), "in"))
	check(t, err)
	defer dst.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opt := Options{LockFile: ".ref", MaxSize: 4 << 20, MaxMembers: 200, Whole: &Whole{bytes.NewReader(archive), int64(len(archive))}}
	tree, err := Unpack(ctx, bytes.NewReader(archive), dst, opt)
	if ctx.Err() != nil {
		t.Fatalf("it takes too long: %v", err)
	}
	compare(t, "outside", snapshot(t, outside), before)
	if err == nil {
		agree(t, tree, filepath.Join(dst.Name(), "files"))
	}
}

// FuzzUnpack feeds it anything.
func FuzzUnpack(f *testing.F) {
	for _, in := range packed(f) {
		if len(in) < 8<<10 {
			f.Add(in)
		}
	}
	small := pack(f, dir("d", 0o755), file("d/a", "content"), link("l", "d/a"), hard("h", "d/a"))
	f.Add(small)
	for _, command := range compressors() {
		f.Add(pipe(f, small, command...))
	}
	var indexed bytes.Buffer
	_, err := Repack(f.Context(), bytes.NewReader(small), &indexed, 1)
	check(f, err)
	f.Add(indexed.Bytes())
	f.Fuzz(unpackForFuzz)
}

// FuzzTar makes archives that are well-formed and mean: five bytes a member say
// its type, its name, its target, its mode and its content.
func FuzzTar(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 1, 3, 7, 0, 0, 0, 11, 0, 0, 2})
	f.Add([]byte{2, 0, 8, 0, 0, 0, 5, 0, 0, 1, 1, 5, 9, 0, 0})
	f.Add([]byte{3, 1, 10, 255, 0, 3, 2, 1, 255, 0, 0, 1, 0, 0, 3})
	names := []string{
		"files", "metadata", "a", "a/b", "a/b/c", "files/a", "files/.ref", "..", "../outside/file", "a/../../outside/file",
		"/tmp/x", "", ".", "./a", "a//b", "files/a/b", "x/files/a", "x/metadata", ".ref", "\n\xff*?[",
	}
	types := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock, tar.TypeXGlobalHeader}
	contents := []string{"", "x", "[Runtime]\nname=demo\n", string(make([]byte, 5000))}
	f.Fuzz(func(t *testing.T, script []byte) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for ; len(script) >= 5 && b.Len() < 1<<20; script = script[5:] {
			h := &tar.Header{
				Typeflag: types[int(script[0])%len(types)], Name: names[int(script[1])%len(names)],
				Linkname: names[int(script[2])%len(names)], Mode: int64(script[3]) << 4, ModTime: someTime,
			}
			content := contents[int(script[4])%len(contents)]
			switch h.Typeflag {
			case tar.TypeReg:
				h.Size = int64(len(content))
			case tar.TypeXGlobalHeader:
				h = &tar.Header{Typeflag: h.Typeflag, Name: h.Name, PAXRecords: map[string]string{"comment": h.Linkname}}
			}
			if w.WriteHeader(h) != nil {
				return // not expressible
			}
			if h.Typeflag == tar.TypeReg {
				_, err := io.WriteString(w, content)
				check(t, err)
			}
		}
		check(t, w.Close())
		unpackForFuzz(t, b.Bytes())
	})
}
