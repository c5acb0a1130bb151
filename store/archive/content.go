package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// holeSize is the least that is left out of a file as a hole, in bytes.
const holeSize = 4096

// regular hands a file on to the workers, or links it at once where its digest
// is known and a donor has it.
func (w *writer) regular(h *tar.Header, parts []string, content io.Reader) error {
	if w.opt.MaxSize > 0 && h.Size > w.opt.MaxSize-w.size {
		return fmt.Errorf("%w: more than %d bytes in all", ErrTooBig, w.opt.MaxSize)
	}
	w.size += h.Size
	dir, at, name, err := w.vacate(parts)
	if err != nil {
		return err
	}
	i := &inode{kind: regular, mode: w.mode(h), size: h.Size, names: 1}
	dir.children[name] = &node{inode: i}
	file := &regularFile{
		dir: at.keep(), name: name, member: h.Name, inode: i,
		size: h.Size, mode: i.mode, time: w.time(h), xattrs: w.xattrs(h), sparse: isSparse(h),
	}
	lazy, ok := content.(lazyMembers)
	if !ok {
		return w.filler.feed(file, content)
	}
	digest, open := lazy.content()
	if w.donors != nil && file.shareable() {
		linked, err := w.donors.give(file, digest, nil)
		if linked || err != nil {
			file.dir.leave()
			return err
		}
	}
	file.open, i.digest = open, digest
	return w.filler.start(file)
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

// xattrs are the attributes of a member that are kept, user.*. It counts the
// others.
func (w *writer) xattrs(h *tar.Header) (kept map[string]string) {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrKey)
		switch {
		case strings.HasPrefix(key, "SCHILY.acl."):
			w.dropped.Xattrs++
		case !ok, name == "security.selinux": // the label is the machine's policy, not the tree's
		case !strings.HasPrefix(name, "user."):
			w.dropped.Xattrs++
		default:
			if kept == nil {
				kept = make(map[string]string)
			}
			kept[name] = value
		}
	}
	return kept
}

// setXattrs sets the attributes of an open file or directory, and counts those
// that the file system does not take: all, if it knows of none.
func setXattrs(fd int, member string, attrs map[string]string) (unkept int, err error) {
	for name, value := range attrs {
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err == unix.EACCES {
			// It is the mode that counts, not how the file was opened, and the
			// umask may have left none.
			if err = unix.Fchmod(fd, 0o700); err == nil {
				err = unix.Fsetxattr(fd, name, []byte(value), 0)
			}
		}
		if errors.Is(err, unix.ENOTSUP) {
			unkept++
		} else if err != nil {
			return unkept, failed("set an extended attribute of", member, err)
		}
	}
	return unkept, nil
}

// grainOf tries how fine the times are that the file system of a directory
// keeps: an ext4 with inodes of 128 bytes has whole seconds.
func grainOf(at int, dir string) (time.Duration, error) {
	finest := time.Unix(1, 999_999_999)
	if _, err := setTime(at, dir, finest); err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at, dir, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	kept := time.Unix(st.Mtim.Unix())
	for _, grain := range []time.Duration{time.Nanosecond, 100 * time.Nanosecond, time.Microsecond, time.Millisecond} {
		if finest.Truncate(grain).Equal(kept) {
			return grain, nil
		}
	}
	return time.Second, nil
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
