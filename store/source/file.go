package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// File is the artifact that a path names: an archive, or a directory. Name and
// version are those of the file's name, and empty if it has none. Nothing is
// promised of its content. The error is ErrNotFound if there is nothing.
func File(path string) (Artifact, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Artifact{}, fmt.Errorf("cannot find %q: %w", path, err)
	}
	info, err := os.Stat(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return Artifact{}, fmt.Errorf("cannot find %q: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return Artifact{}, fmt.Errorf("cannot examine a source: %w", err)
	}
	a := Artifact{Size: -1, Origin: abs}
	if info.IsDir() {
		a.Directory = abs
		a.Name, a.Version, _ = splitStem(filepath.Base(abs))
		return a, nil
	}
	if info.Mode().IsRegular() {
		a.Size = info.Size()
	}
	a.Name, a.Version, _ = SplitName(filepath.Base(abs))
	a.open = opener(abs)
	return a, nil
}

func opener(path string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read an archive: %w", err)
		}
		return f, nil
	}
}
