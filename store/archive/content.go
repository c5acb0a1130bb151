package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// holeSize is the least that is left out of a file as a hole, in bytes.
const holeSize = 4096

// regular makes a file and hashes it.
func (w *writer) regular(h *tar.Header, parts []string, content io.Reader) error {
	if w.opt.MaxSize > 0 && h.Size > w.opt.MaxSize-w.size {
		return fmt.Errorf("%w: more than %d bytes in all", ErrTooBig, w.opt.MaxSize)
	}
	w.size += h.Size
	dir, at, name, err := w.vacate(parts)
	if err != nil {
		return err
	}
	fd, err := openAt(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return failed("make", h.Name, err)
	}
	i := &inode{kind: regular, mode: w.mode(h), size: h.Size, names: 1}
	err = w.fill(fd, h, content)
	w.sum.Sum(i.digest[:0])
	if err == nil {
		err = w.xattrs(fd, h)
	}
	if err == nil {
		if err = unix.Fchmod(fd, i.mode); err != nil {
			err = failed("set the mode of", h.Name, err)
		}
	}
	if e := unix.Close(fd); e != nil && err == nil {
		err = failed("close", h.Name, e)
	}
	if err != nil {
		return err
	}
	if i.time, err = setTime(at, name, w.time(h)); err != nil {
		return failed("set the time of", h.Name, err)
	}
	dir.children[name] = &node{inode: i}
	return nil
}

// fill writes and hashes the content. Zeros of a sparse member become holes.
func (w *writer) fill(fd int, h *tar.Header, content io.Reader) error {
	w.sum.Reset()
	sparse := isSparse(h)
	for offset := int64(0); offset < h.Size; {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		b := w.buf[:min(int64(len(w.buf)), h.Size-offset)]
		if _, err := io.ReadFull(content, b); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = fmt.Errorf("%w: truncated", ErrFormat)
			}
			return err
		}
		w.sum.Write(b)
		put := writeAt
		if sparse {
			put = writeHoles
		}
		if err := put(fd, b, offset); err != nil {
			return failed("write", h.Name, err)
		}
		offset += int64(len(b))
	}
	if !sparse {
		return nil
	}
	if err := retry(func() error { return unix.Ftruncate(fd, h.Size) }); err != nil {
		return failed("write", h.Name, err)
	}
	return nil
}

// isSparse knows GNU's own type and the three generations of PAX records.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func writeAt(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

// writeHoles writes what is not zero, in runs of blocks.
func writeHoles(fd int, b []byte, offset int64) error {
	var zeros [holeSize]byte
	for len(b) > 0 {
		n := 0
		for n < len(b) {
			block := b[n:min(n+holeSize, len(b))]
			if bytes.Equal(block, zeros[:len(block)]) {
				break
			}
			n += len(block)
		}
		if err := writeAt(fd, b[:n], offset); err != nil {
			return err
		}
		n = min(n+holeSize, len(b)) // and past the block of zeros
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

const xattrKey = "SCHILY.xattr."

// xattrs sets the user.* attributes of an open file or directory, and counts
// those that are left out: all others, and all on a file system without any.
func (w *writer) xattrs(fd int, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrKey)
		if !ok {
			if strings.HasPrefix(key, "SCHILY.acl.") {
				w.dropped.Xattrs++
			}
			continue
		}
		// The label is the machine's policy, not the tree's.
		if name == "security.selinux" {
			continue
		}
		if !strings.HasPrefix(name, "user.") {
			w.dropped.Xattrs++
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err == unix.EACCES {
			// It is the mode that counts, not how the file was opened, and the
			// umask may have left none.
			if err = unix.Fchmod(fd, 0o700); err == nil {
				err = unix.Fsetxattr(fd, name, []byte(value), 0)
			}
		}
		if errors.Is(err, unix.ENOTSUP) {
			w.dropped.Xattrs++
		} else if err != nil {
			return failed("set an extended attribute of", h.Name, err)
		}
	}
	return nil
}

// setTime sets the modification time of a name, itself if it is a symbolic
// link, and returns the time that the file system could keep: that of ext4 ends
// in 2446, for instance. Inside the range that all have nobody is asked.
func setTime(at int, name string, t time.Time) (time.Time, error) {
	ts := []unix.Timespec{
		{Nsec: unix.UTIME_OMIT},
		{Sec: t.Unix(), Nsec: int64(t.Nanosecond())},
	}
	if err := unix.UtimesNanoAt(at, name, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return t, err
	}
	if s := t.Unix(); -1<<31 <= s && s < 1<<31 {
		return t, nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return t, err
	}
	return time.Unix(st.Mtim.Unix()).UTC(), nil
}
