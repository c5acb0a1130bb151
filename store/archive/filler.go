package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The content of files goes through the pipeline in blocks, of which there is
// a bounded number: small ones, which most files fit in, and large ones.
const (
	smallBlock  = 32 << 10
	largeBlock  = 256 << 10
	smallBlocks = 64
	largeBlocks = 20
	mostWorkers = 8
)

// errStopped says that the content of a file ended early, because of an error
// that somebody else reports.
var errStopped = errors.New("stopped")

// A filler makes regular files: workers that hash what the reader of the
// archive hands on to them, and write it or link it from a donor.
type filler struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	donors  *donors // or nil
	files   chan *regularFile
	small   chan []byte // blocks to be filled; nil is one that is not made yet
	large   chan []byte
	pending sync.WaitGroup
	workers sync.WaitGroup

	unkept    atomic.Int64 // user.* attributes that the file system does not take
	writeBack bool
	failure   atomic.Pointer[error]
}

// A regularFile is one on its way to the disk.
type regularFile struct {
	dir    *held
	name   string
	member string // as the archive names it
	size   int64
	mode   uint32
	time   time.Time
	xattrs map[string]string // user.*
	sparse bool
	inode  *inode // whose digest and time are the worker's to set

	// The content: either who can read it, and checks the digest that inode has
	// already, or what has been read.
	open  func() (io.Reader, error)
	first []byte      // all of it, if more is nil
	more  chan []byte // the rest, closed at its end
}

func newFiller(ctx context.Context, cancel context.CancelCauseFunc, d *donors, writeBack bool) *filler {
	f := &filler{
		ctx: ctx, cancel: cancel, donors: d, writeBack: writeBack,
		files: make(chan *regularFile, smallBlocks),
		small: make(chan []byte, smallBlocks),
		large: make(chan []byte, largeBlocks),
	}
	for range smallBlocks {
		f.small <- nil
	}
	for range largeBlocks {
		f.large <- nil
	}
	for range min(max(runtime.GOMAXPROCS(0), 2), mostWorkers) {
		f.workers.Go(func() {
			w := &fillWorker{filler: f}
			for file := range f.files {
				// After the first error the others follow from it.
				if err := w.make(file); err != nil && ctx.Err() == nil {
					f.fail(err)
				}
				file.dir.leave()
				f.pending.Done()
			}
		})
	}
	return f
}

// fail stops everything. The first error counts.
func (f *filler) fail(err error) {
	if f.failure.CompareAndSwap(nil, &err) {
		f.cancel(err)
	}
}

func (f *filler) err() error {
	if p := f.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// wait returns when all files that were handed on are made, or something has
// failed.
func (f *filler) wait() error {
	f.pending.Wait()
	return f.err()
}

// stop ends the workers.
func (f *filler) stop() {
	close(f.files)
	f.workers.Wait()
}

// take gets a block to fill, for a file of that size.
func (f *filler) take(size int64) ([]byte, error) {
	free, length := f.small, smallBlock
	if size > smallBlock {
		free, length = f.large, largeBlock
	}
	select {
	case b := <-free:
		if b == nil {
			b = make([]byte, length)
		}
		return b, nil
	case <-f.ctx.Done():
		return nil, context.Cause(f.ctx)
	}
}

func (f *filler) give(b []byte) {
	if cap(b) == smallBlock {
		f.small <- b[:cap(b)]
	} else {
		f.large <- b[:cap(b)]
	}
}

// feed hands a file on, and reads its content for the workers.
func (f *filler) feed(file *regularFile, content io.Reader) error {
	if file.size == 0 {
		return f.start(file)
	}
	for left := file.size; left > 0; {
		b, err := f.take(file.size)
		if err == nil {
			b = b[:min(int64(len(b)), left)]
			_, err = io.ReadFull(content, b)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = fmt.Errorf("%w: truncated", ErrFormat)
			}
			left -= int64(len(b))
		}
		switch {
		case err != nil:
			// The worker, if it has begun, gets to know that this is not all.
			f.cancel(err)
			if file.more != nil {
				close(file.more)
			} else {
				file.dir.leave()
			}
			return err
		case file.first == nil:
			file.first = b
			if left > 0 {
				file.more = make(chan []byte, largeBlocks)
			}
			if err := f.start(file); err != nil {
				return err
			}
		default:
			file.more <- b // never blocks: there are no more blocks
		}
	}
	if file.more != nil {
		close(file.more)
	}
	return nil
}

func (f *filler) start(file *regularFile) error {
	f.pending.Add(1)
	select {
	case f.files <- file:
		return nil
	case <-f.ctx.Done():
		f.pending.Done()
		file.dir.leave()
		return context.Cause(f.ctx)
	}
}

// shareable tells whether a donor may be asked for the file. Empty files are
// never shared. What its owner may not read stays our own, because it gets
// another mode for a moment if it turns out to be the metadata.
func (f *regularFile) shareable() bool { return f.size > 0 && f.mode&0o400 != 0 }

// A fillWorker makes one file at a time.
type fillWorker struct {
	*filler
	buf []byte // of donors
}

// blocks calls for every block of a file's content, which it hashes unless the
// digest is known.
func (w *fillWorker) blocks(file *regularFile, use func(b []byte, offset int64) error) error {
	if file.open != nil {
		return w.read(file, use)
	}
	if file.more == nil {
		file.inode.digest = sha256.Sum256(file.first)
		return use(file.first, 0)
	}
	sum := sha256.New()
	offset := int64(0)
	for b, ok := file.first, true; ok; b, ok = <-file.more {
		sum.Write(b)
		err := use(b, offset)
		offset += int64(len(b))
		if offset > int64(len(file.first)) {
			w.give(b)
		}
		if err != nil {
			return err
		}
	}
	if offset != file.size {
		return errStopped
	}
	sum.Sum(file.inode.digest[:0])
	return nil
}

// read does it for a file that nobody has read yet.
func (w *fillWorker) read(file *regularFile, use func(b []byte, offset int64) error) error {
	content, err := file.open()
	if err != nil {
		return err
	}
	w.needBuf()
	for offset := int64(0); offset < file.size; {
		b := w.buf[:min(int64(len(w.buf)), file.size-offset)]
		if _, err := io.ReadFull(content, b); err != nil {
			return err
		}
		if err := use(b, offset); err != nil {
			return err
		}
		offset += int64(len(b))
	}
	return nil
}

func (w *fillWorker) needBuf() {
	if w.buf == nil {
		w.buf = make([]byte, largeBlock)
	}
}

// make makes the file, and gives all blocks back.
func (w *fillWorker) make(file *regularFile) error {
	defer func() {
		if file.first != nil {
			w.give(file.first)
		}
		if file.more != nil {
			for b := range file.more {
				w.give(b)
			}
		}
	}()
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	switch {
	case w.donors == nil || !file.shareable() || file.open != nil: // whose digest no donor has
		return w.write(file)
	case file.more == nil:
		file.inode.digest = sha256.Sum256(file.first)
		if linked, err := w.donors.give(file, file.inode.digest, file.first); linked || err != nil {
			return err
		}
		return w.write(file)
	}
	return w.compare(file)
}

// write makes a new file.
func (w *fillWorker) write(file *regularFile) error {
	out, err := w.create(file)
	if err != nil {
		return err
	}
	if file.size > 0 {
		err = w.blocks(file, func(b []byte, offset int64) error { return out.write(b, offset) })
	} else {
		file.inode.digest = sha256.Sum256(nil)
	}
	return out.finish(err)
}

// An output is a file that is being written.
type output struct {
	*regularFile
	worker *fillWorker
	fd     int
	sent   int64 // bytes on their way to the disk
}

// writeBackSize is how many bytes are sent to the disk at once.
const writeBackSize = 8 << 20

func (w *fillWorker) create(file *regularFile) (*output, error) {
	fd, err := openAt(file.dir.fd, file.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, failed("make", file.member, err)
	}
	return &output{regularFile: file, worker: w, fd: fd}, nil
}

func (o *output) write(b []byte, offset int64) error {
	if o.worker.ctx.Err() != nil {
		return context.Cause(o.worker.ctx)
	}
	put := writeAt
	if o.sparse {
		put = writeHoles
	}
	if err := put(o.fd, b, offset); err != nil {
		return failed("write", o.member, err)
	}
	if end := offset + int64(len(b)); o.worker.writeBack && end-o.sent >= writeBackSize {
		// A hint: what is wrong with the disk, the sync says.
		_ = unix.SyncFileRange(o.fd, o.sent, end-o.sent, unix.SYNC_FILE_RANGE_WRITE)
		o.sent = end
	}
	return nil
}

// finish gives the file its metadata and closes it, unless err is not nil: then
// it only closes it.
func (o *output) finish(err error) error {
	if err == nil && o.sparse {
		if err = retry(func() error { return unix.Ftruncate(o.fd, o.size) }); err != nil {
			err = failed("write", o.member, err)
		}
	}
	if err == nil {
		var unkept int
		unkept, err = setXattrs(o.fd, o.member, o.xattrs)
		o.worker.unkept.Add(int64(unkept))
	}
	if err == nil {
		if err = unix.Fchmod(o.fd, o.mode); err != nil {
			err = failed("set the mode of", o.member, err)
		}
	}
	if err == nil {
		if o.inode.time, err = setTime(o.dir.fd, o.name, o.time); err != nil {
			err = failed("set the time of", o.member, err)
		}
	}
	if e := unix.Close(o.fd); e != nil && err == nil {
		err = failed("close", o.member, e)
	}
	return err
}
