package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Metadata reads an archive until it has found its metadata, a Flatpak key
// file, at the top, or else to its end: then it is that of the only directory
// at the top. It returns nil if there is none. Nothing is unpacked, and what
// follows is not read: it is good for asking what an archive calls itself, not
// for believing it.
func Metadata(ctx context.Context, r io.Reader) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	var stages sync.WaitGroup
	defer stages.Wait()
	defer cancel()
	src, err := openTar(ctx, &stages, r, nil)
	if err != nil {
		return nil, err
	}
	var below []byte // the metadata one directory down
	only := ""       // the name at the top, as long as there is but one
	several := false
	for {
		h, err := src.Next()
		if errors.Is(err, io.EOF) {
			return below, nil
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if name == "" || name == "." {
			continue
		}
		top, rest, deep := strings.Cut(name, "/")
		if only == "" {
			only = top
		}
		if top != only {
			several, below = true, nil
		}
		isTop := !deep && top == metadataName
		isBelow := rest == metadataName && top != filesName && !several
		if h.Typeflag != tar.TypeReg || !isTop && !isBelow {
			continue
		}
		if h.Size > maxMetadata {
			return nil, &MemberError{h.Name, fmt.Errorf("%w: more than %d bytes", ErrTooBig, maxMetadata)}
		}
		text, err := io.ReadAll(src)
		if isTop || err != nil {
			return text, err
		}
		below = text
	}
}

// DirectoryMetadata finds what Metadata would find in an archive of the
// directory. What is no regular file is none.
func DirectoryMetadata(dir string) ([]byte, error) {
	text, err := readMetadata(dir)
	if text != nil || err != nil {
		return text, err
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 || !list[0].IsDir() || list[0].Name() == filesName {
		return nil, err
	}
	return readMetadata(filepath.Join(dir, list[0].Name()))
}

func readMetadata(dir string) ([]byte, error) {
	// A fifo must not wait for its writer.
	f, err := os.OpenFile(filepath.Join(dir, metadataName), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	if info.Size() > maxMetadata {
		return nil, &MemberError{metadataName, fmt.Errorf("%w: more than %d bytes", ErrTooBig, maxMetadata)}
	}
	return io.ReadAll(io.LimitReader(f, maxMetadata))
}

// Identity takes the name of a runtime and its version from the metadata of an
// archive: name and x-flatdeb-build-id of the group [Runtime]. "" stands for
// what is not there. Nothing says that either is fit for use as such.
func Identity(metadata []byte) (name, version string) {
	inGroup := false
	for line := range strings.Lines(string(metadata)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inGroup = line == "[Runtime]"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || !inGroup {
			continue
		}
		switch strings.TrimSpace(key) {
		case "name":
			name = strings.TrimSpace(value)
		case "x-flatdeb-build-id":
			version = strings.TrimSpace(value)
		}
	}
	return name, version
}
