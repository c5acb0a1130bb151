package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// sumsFile lists the digests of a channel's archives, as sha256sum writes it.
const sumsFile = "SHA256SUMS"

// tocSuffix makes the name under which SHA256SUMS lists the table of contents
// of an archive: a file of that name need not be there.
const tocSuffix = ".toc"

// Directory is the channel that a directory is: archives with names like
// NAME-VERSION.tar.*, and a SHA256SUMS that lists the digest of each.
func Directory(path string) Channel { return directory(path) }

type directory string

// List reads the directory afresh. An archive that SHA256SUMS does not list is
// not on offer: it may be on its way there. If no archive of the runtime is
// listed, but some are there, that is an error.
func (d directory) List(ctx context.Context, name string) ([]Artifact, error) {
	abs, err := filepath.Abs(string(d))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	sums, err := readSums(filepath.Join(abs, sumsFile))
	if err != nil {
		return nil, err
	}
	best := make(map[string]Artifact)
	ranks := make(map[string]int)
	unlisted := ""
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		stem, rank := cutSuffix(e.Name())
		found, version, ok := splitStem(stem)
		if !ok || rank == len(suffixes) || found != name {
			continue
		}
		path := filepath.Join(abs, e.Name())
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		sum, listed := sums[e.Name()]
		if !listed {
			unlisted = e.Name()
			continue
		}
		if old, ok := ranks[version]; ok && old < rank {
			continue
		}
		ranks[version] = rank
		best[version] = Artifact{
			Name: name, Version: version, Size: info.Size(), Digest: sum, TOC: sums[e.Name()+tocSuffix],
			Origin: path, open: opener(path),
		}
	}
	if len(best) == 0 && unlisted != "" {
		return nil, fmt.Errorf("%w: %s does not list %q", ErrDigest, filepath.Join(abs, sumsFile), unlisted)
	}
	list := make([]Artifact, 0, len(best))
	for _, a := range best {
		list = append(list, a)
	}
	return list, nil
}
