package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Metadata reads an archive until it has found its metadata, a Flatpak key
// file, at the top or one directory down. It returns nil if there is none.
// Nothing is unpacked, and what follows is not read: it is good for asking
// what an archive calls itself, not for believing it.
func Metadata(ctx context.Context, r io.Reader) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	var stages sync.WaitGroup
	defer stages.Wait()
	defer cancel()
	src, err := openTar(ctx, &stages, r, nil)
	if err != nil {
		return nil, err
	}
	for {
		h, err := src.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(h.Name, "./")
		dir, base, deep := strings.Cut(name, "/")
		if !deep {
			base, dir = dir, ""
		}
		if base != metadataName || dir == filesName || h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > maxMetadata {
			return nil, &MemberError{h.Name, fmt.Errorf("%w: more than %d bytes", ErrTooBig, maxMetadata)}
		}
		return io.ReadAll(src)
	}
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
