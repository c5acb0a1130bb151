package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A dir is an open directory, in which names are single components and a
// symlink is never followed. What has been opened stays the same thing when
// somebody renames it or puts something else in its place.
type dir struct{ *os.File }

// A fileID tells files apart for as long as one of them is open.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }

func openDirPath(path string) (dir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return dir{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return dir{os.NewFile(uintptr(fd), path)}, nil
}

func (d dir) path(name string) string { return filepath.Join(d.Name(), name) }

func (d dir) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: d.path(name), Err: err}
}

// openFile opens name, never through a symlink, and never waiting for the
// other end of a fifo.
func (d dir) openFile(name string, flags int) (*os.File, error) {
	fd, err := openat(d, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	// Or else Go prepares to wait for it with epoll(7).
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, d.fail("open", name, err)
	}
	return os.NewFile(uintptr(fd), d.path(name)), nil
}

func (d dir) openDir(name string) (dir, error) { return d.openDirAs(name, unix.O_RDONLY) }

// findDir opens a directory only to name it: that needs no right to read it.
func (d dir) findDir(name string) (dir, error) { return d.openDirAs(name, unix.O_PATH) }

func (d dir) openDirAs(name string, flags int) (dir, error) {
	fd, err := openat(d, name, flags|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return dir{}, d.fail("open", name, err)
	}
	return dir{os.NewFile(uintptr(fd), d.path(name))}, nil
}

// createFile makes a regular file that was not there before, with mode perm
// whatever the umask.
func (d dir) createFile(name string, perm uint32) (*os.File, error) {
	fd, err := openat(d, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, perm)
	if err != nil {
		return nil, d.fail("create", name, err)
	}
	f := os.NewFile(uintptr(fd), d.path(name))
	if err := unix.Fchmod(fd, perm); err != nil {
		f.Close()
		return nil, d.fail("chmod", name, err)
	}
	return f, nil
}

// makeDir makes the directory, unless it is there, and opens it.
func (d dir) makeDir(name string) (dir, error) {
	err := unix.Mkdirat(int(d.Fd()), name, 0o755)
	if err != nil && err != unix.EEXIST {
		return dir{}, d.fail("mkdir", name, err)
	}
	made := err == nil
	sub, err := d.openDir(name)
	if err != nil {
		return dir{}, err
	}
	if made {
		if err := unix.Fchmod(int(sub.Fd()), 0o755); err != nil {
			sub.Close()
			return dir{}, d.fail("chmod", name, err)
		}
	}
	return sub, nil
}

func (d dir) lstat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, d.fail("stat", name, err)
}

func (d dir) exists(name string) (bool, error) {
	_, err := d.lstat(name)
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

func (d dir) readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(d.Fd()), name, buf)
	if err != nil {
		return "", d.fail("readlink", name, err)
	}
	return string(buf[:n]), nil
}

func (d dir) symlink(target, name string) error {
	return d.fail("symlink", name, unix.Symlinkat(target, int(d.Fd()), name))
}

// rename moves name to newName in another directory, over what is there.
func (d dir) rename(name string, to dir, newName string) error {
	err := unix.Renameat(int(d.Fd()), name, int(to.Fd()), newName)
	return linkError("rename", d.path(name), to.path(newName), err)
}

// renameNew moves name to newName, where nothing may be. The caller holds the
// store lock, so that nobody of ours can make newName meanwhile: where a file
// system has no RENAME_NOREPLACE (eCryptfs, some FUSE), a look before does.
func (d dir) renameNew(name string, to dir, newName string) error {
	err := unix.Renameat2(int(d.Fd()), name, int(to.Fd()), newName, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		if there, statErr := to.exists(newName); statErr != nil {
			return statErr
		} else if there {
			return linkError("rename", d.path(name), to.path(newName), unix.EEXIST)
		}
		return d.rename(name, to, newName)
	}
	return linkError("rename", d.path(name), to.path(newName), err)
}

func linkError(op, from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: from, New: to, Err: err}
}

func (d dir) unlink(name string) error {
	return d.fail("remove", name, unix.Unlinkat(int(d.Fd()), name, 0))
}

func (d dir) rmdir(name string) error {
	return d.fail("remove", name, unix.Unlinkat(int(d.Fd()), name, unix.AT_REMOVEDIR))
}

// sync makes the names in the directory durable.
func (d dir) sync() error { return d.Sync() }

// syncFS makes all of the file system durable that the directory is on.
func (d dir) syncFS() error { return d.fail("sync the file system of", ".", unix.Syncfs(int(d.Fd()))) }

// entries lists the directory as it is now, sorted. It is opened once more for
// that: a listing goes on where the last one ended, and btrfs shows a
// descriptor only the names that were there when it was opened. Where there is
// none there are no names.
func (d dir) entries() ([]fs.DirEntry, error) {
	if d.File == nil {
		return nil, nil
	}
	again, err := d.openDir(".")
	if err != nil {
		return nil, err
	}
	defer again.Close()
	list, err := again.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// writeFile makes or replaces a small regular file, mode 0644: its content is
// on the disk before the name is.
func (d dir) writeFile(name string, content []byte) error {
	temp := "." + name + ".new"
	if err := d.unlink(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := d.createFile(temp, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := d.rename(temp, d, name); err != nil {
		return err
	}
	return d.sync()
}

// fillFile makes a regular file, mode 0644, which the caller makes durable with
// the rest of its tree.
func (d dir) fillFile(name string, fill func(io.Writer) error) error {
	f, err := d.createFile(name, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// mark makes an empty regular file, mode 0644, unless it is there.
func (d dir) mark(name string) error {
	f, err := d.createFile(name, 0o644)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// touch sets the modification time of a marker, which it makes if need be.
func (d dir) touch(name string, t time.Time) error {
	if err := d.mark(name); err != nil {
		return err
	}
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return d.fail("touch", name, err)
	}
	times := []unix.Timespec{ts, ts}
	return d.fail("touch", name, unix.UtimesNanoAt(int(d.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW))
}

func openat(d dir, name string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Openat(int(d.Fd()), name, flags|unix.O_CLOEXEC, perm)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func fstat(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st, nil
}

func isDir(st *unix.Stat_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

func modTime(st *unix.Stat_t) time.Time {
	return time.Unix(st.Mtim.Unix())
}

// checkRegular refuses what is no regular file under a name that promises one.
func checkRegular(f *os.File) (unix.Stat_t, error) {
	st, err := fstat(f)
	if err == nil && !isRegular(&st) {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	return st, err
}
