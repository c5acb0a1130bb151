package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A likeness is what two files have in common if one may be linked in place of
// the other.
type likeness struct {
	content  [sha256.Size]byte
	mode     int64
	modified time.Time
}

// changed are the files of an archive, by name, that no file of an older one is
// like, with their sizes. Empty ones are left out: they have no content.
func changed(older, newer io.Reader) (map[string]int64, error) {
	known := map[likeness]bool{}
	err := eachFile(older, func(_ string, l likeness, _ int64) { known[l] = true })
	if err != nil {
		return nil, err
	}
	files := map[string]int64{}
	err = eachFile(newer, func(name string, l likeness, size int64) {
		if size > 0 && !known[l] {
			files[name] = size
		}
	})
	return files, err
}

func eachFile(archive io.Reader, visit func(name string, l likeness, size int64)) error {
	r := tar.NewReader(archive)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		hash := sha256.New()
		size, err := io.Copy(hash, r)
		if err != nil {
			return err
		}
		l := likeness{mode: h.Mode, modified: h.ModTime.UTC()}
		hash.Sum(l.content[:0])
		visit(path.Clean(h.Name), l, size)
	}
}

// changedFiles is changed for two archives that are not compressed.
func changedFiles(older, newer string) (map[string]int64, error) {
	a, err := os.Open(older)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := os.Open(newer)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return changed(a, b)
}

// writeChanged makes an archive of the changed files alone.
func (b *bench) writeChanged(to string) error {
	files, err := b.changedFiles()
	if err != nil {
		return err
	}
	newer, err := b.in.plain(newVersion)
	if err != nil {
		return err
	}
	in, err := os.Open(newer)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	compressed, err := zstd.NewWriter(out)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	archive := tar.NewWriter(compressed)
	err = copyMembers(archive, tar.NewReader(in), func(h *tar.Header) bool {
		return h.Typeflag == tar.TypeReg && files[path.Clean(h.Name)] > 0
	})
	return errors.Join(err, archive.Close(), compressed.Close(), out.Close())
}

func copyMembers(w *tar.Writer, r *tar.Reader, wanted func(*tar.Header) bool) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if !wanted(h) {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
}

// storedSizes reads the table of contents of a zstd:chunked archive: how many
// bytes of the archive each file takes. It shares no code with berth. The footer is
// described in containers/storage, pkg/chunked/internal/compression.go.
func storedSizes(archive io.ReaderAt, size int64) (map[string]int64, error) {
	const footerSize = 64
	footer := make([]byte, footerSize)
	if _, err := archive.ReadAt(footer, size-footerSize); err != nil {
		return nil, fmt.Errorf("cannot read the footer: %w", err)
	}
	if !bytes.HasSuffix(footer, []byte("GNUlInUx")) {
		return nil, errors.New("no table of contents")
	}
	offset := int64(binary.LittleEndian.Uint64(footer))
	length := int64(binary.LittleEndian.Uint64(footer[8:]))
	table, err := zstd.NewReader(io.NewSectionReader(archive, offset, length))
	if err != nil {
		return nil, err
	}
	defer table.Close()
	var contents struct {
		Entries []struct {
			Type, Name        string
			Offset, EndOffset int64
		}
	}
	if err := json.NewDecoder(table).Decode(&contents); err != nil {
		return nil, fmt.Errorf("cannot read the table of contents: %w", err)
	}
	sizes := map[string]int64{}
	for _, e := range contents.Entries {
		if e.Type == "reg" { // to the end of its last chunk
			sizes[path.Clean(e.Name)] = e.EndOffset - e.Offset
		}
	}
	return sizes, nil
}
