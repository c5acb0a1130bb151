package archive

import (
	"bytes"
	"io"

	"golang.org/x/sys/unix"
)

// compare makes a file that is too large to be held: as long as its content is
// that of a donor's file of the same looks nothing is written. Where they part,
// what they have in common is copied, and the rest is written.
func (w *fillWorker) compare(file *regularFile) error {
	c, donor := w.donors.likely(file)
	if c == nil {
		return w.write(file)
	}
	defer unix.Close(donor)
	w.needBuf()
	var out *output
	err := w.blocks(file, func(b []byte, offset int64) (err error) {
		if out != nil {
			return out.write(b, offset)
		}
		if err := readAt(donor, w.buf[:len(b)], offset); err == nil && bytes.Equal(w.buf[:len(b)], b) {
			return nil
		}
		if out, err = w.create(file); err != nil {
			return err
		}
		if err := out.copy(donor, offset, w.buf); err != nil {
			return err
		}
		return out.write(b, offset)
	})
	if out != nil {
		return out.finish(err)
	}
	if err != nil {
		return err
	}
	linked := false
	w.donors.mu.Lock()
	if file.inode.digest == c.digest {
		linked, err = w.donors.link(c, file)
	} else {
		w.donors.report(c) // changed in place, to what the archive has
	}
	w.donors.mu.Unlock()
	if linked || err != nil {
		return err
	}
	if out, err = w.create(file); err != nil {
		return err
	}
	return out.finish(out.copy(donor, file.size, w.buf))
}

// copy copies the beginning of another file, whose content has been compared.
func (o *output) copy(from int, size int64, buf []byte) error {
	for offset := int64(0); offset < size; {
		b := buf[:min(int64(len(buf)), size-offset)]
		if err := readAt(from, b, offset); err != nil {
			return failed("read the donor of", o.member, err)
		}
		if err := o.write(b, offset); err != nil {
			return err
		}
		offset += int64(len(b))
	}
	return nil
}

func readAt(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, offset)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}
