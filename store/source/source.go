// Package source finds versions of runtimes: single files and directories, and
// channels, which offer several versions.
package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"syscall"
)

var (
	// ErrNotFound says that a source has no such runtime or file. It is
	// fs.ErrNotExist as well.
	ErrNotFound error = absence("not on offer")
	// ErrDigest says that an artifact is not what was promised: another size
	// or digest, or no digest where there has to be one.
	ErrDigest = errors.New("not the promised content")
	// ErrUnavailable says that a channel cannot be asked at the moment.
	ErrUnavailable = errors.New("channel unavailable")
)

// absence is something that is not there.
type absence string

func (e absence) Error() string { return string(e) }

// Is makes it fs.ErrNotExist.
func (e absence) Is(target error) bool { return target == fs.ErrNotExist }

// An Artifact is one version of a runtime, ready to be read.
type Artifact struct {
	Name, Version string
	Size          int64  // bytes of the archive; -1 if it is not known before
	Digest        string // the promised one, "sha256:HEX"; "" if there is none
	// TOC is the promised digest, likewise, of the table of contents that the
	// archive ends with, if somebody promises one.
	TOC    string
	Origin string // an absolute path or a URL
	// Directory, if not empty, is the directory that the artifact is. Open is
	// for archives only.
	Directory string

	open func(ctx context.Context) (io.ReadCloser, error)
}

// A Random is an archive that can be read at any place. Nothing of it is
// checked.
type Random interface {
	io.ReaderAt
	io.Closer
}

// OpenRandom opens the archive to be read at any place. It returns nil where
// that cannot be done, and the size in bytes. The caller closes it.
func (a Artifact) OpenRandom(ctx context.Context) (r Random, size int64, err error) {
	if a.open == nil || a.Size < 0 {
		return nil, 0, nil
	}
	in, err := a.open(ctx)
	if err != nil {
		return nil, 0, err
	}
	if r, ok := in.(Random); ok {
		return r, a.Size, nil
	}
	return nil, 0, in.Close()
}

// Open opens the archive. The reader checks size and digest itself: where they
// are not the promised ones, it returns an error that is ErrDigest in the place
// of io.EOF, or as soon as there is too much. So nobody can have read an
// artifact to its end, successfully, without its being the promised one. The
// caller closes the reader.
func (a Artifact) Open(ctx context.Context) (io.ReadCloser, error) {
	if a.open == nil {
		return nil, fmt.Errorf("cannot read %q as an archive: %w", a.Origin, syscall.EISDIR)
	}
	r, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	return &verifying{from: r, artifact: a, hash: sha256.New()}, nil
}

// verifying checks while it is read.
type verifying struct {
	from     io.ReadCloser
	artifact Artifact
	hash     hash.Hash
	n        int64
	end      error // what Read answers from now on
}

func (v *verifying) Read(p []byte) (int, error) {
	if v.end != nil {
		return 0, v.end
	}
	n, err := v.from.Read(p)
	v.n += int64(n)
	if v.artifact.Digest != "" {
		v.hash.Write(p[:n])
	}
	if size := v.artifact.Size; size >= 0 && v.n > size {
		v.end = fmt.Errorf("%q: %w: more than %d bytes", v.artifact.Origin, ErrDigest, size)
		return 0, v.end
	}
	if err == io.EOF {
		err = v.atEnd()
	}
	v.end = err
	return n, err
}

// atEnd is io.EOF, if everything is as promised.
func (v *verifying) atEnd() error {
	a := v.artifact
	if a.Size >= 0 && v.n != a.Size {
		return fmt.Errorf("%q: %w: %d bytes, not %d", a.Origin, ErrDigest, v.n, a.Size)
	}
	if a.Digest == "" {
		return io.EOF
	}
	if found := digest(v.hash); found != a.Digest {
		return fmt.Errorf("%q: %w: %s, not %s", a.Origin, ErrDigest, found, a.Digest)
	}
	return io.EOF
}

func (v *verifying) Close() error { return v.from.Close() }

func digest(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// A Channel is where new versions of runtimes come from.
type Channel interface {
	// List returns what the channel offers of a runtime, in no order, each
	// version once. Nothing on offer is no error. The error is ErrUnavailable
	// if the channel cannot be asked, and ErrDigest if what it says of itself
	// cannot be trusted. Asking changes nothing; it may be done concurrently,
	// and ends when ctx does.
	List(ctx context.Context, name string) ([]Artifact, error)
}
