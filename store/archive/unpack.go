package archive

import (
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Unpack reads an archive from r to its end and leaves below dst, an open and
// empty directory, "files" and, if the archive has one, "metadata".
//
// The archive is tar: of any of its formats, plain or compressed with zstd,
// gzip, xz or bzip2, which its first bytes tell. What of it becomes files/ is
// decided by its shape: the directory files beside the file metadata (or all
// alone), at the top or one level down, else the whole. A directory that no
// member describes gets mode 0755 and the time of the newest member.
//
// After an error dst has leftovers, which are the caller's to delete.
// ErrUnsafe, ErrFormat and ErrTooBig are the archive's faults, as a
// *MemberError where a member is to blame. An error of r comes through, and so
// does one of the file system (errors.Is finds the errno).
//
// r is read in another goroutine, which has ended when Unpack returns: a Read
// that can block for long should obey ctx too.
func Unpack(ctx context.Context, r io.Reader, dst *os.File, opt Options) (*Tree, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var stages sync.WaitGroup
	defer stages.Wait()
	defer cancel(nil)

	w, err := newWriter(ctx, cancel, dst, opt)
	if err != nil {
		return nil, err
	}
	defer w.close()
	src, err := openTar(ctx, &stages, r, opt.Read)
	if err != nil {
		return nil, err
	}
	if err := w.write(src); err != nil {
		return nil, err
	}
	tree, err := w.finish()
	if err != nil {
		return nil, err
	}
	src.sum.Sum(tree.Digest[:0])
	tree.SourceSize = src.size
	return tree, nil
}

// Copy does with the directory src what Unpack does with an archive, by the
// same rules. A file that changes while it is read is an error. The directory
// must not contain dst.
func Copy(ctx context.Context, src string, dst *os.File, opt Options) (*Tree, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w, err := newWriter(ctx, cancel, dst, opt)
	if err != nil {
		return nil, err
	}
	defer w.close()
	var at unix.Stat_t
	if err := unix.Fstat(w.dst, &at); err != nil {
		return nil, failed("look at", "the destination", err)
	}
	walk, err := openWalk(src, idOf(&at), opt.Read)
	if err != nil {
		return nil, err
	}
	defer walk.close()
	if err := w.write(walk); err != nil {
		return nil, err
	}
	tree, err := w.finish()
	if err != nil {
		return nil, err
	}
	tree.SourceSize = walk.size
	return tree, nil
}
