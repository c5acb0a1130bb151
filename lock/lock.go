// Package lock takes, tests and hands on whole-file read and write locks.
//
// They are the byte-range record locks of fcntl(2) over the range that starts
// at 0 and has length 0, which means to the end of the file however long it
// grows. That is what bubblewrap, Flatpak and pressure-vessel take on a
// runtime's ".ref": any number of readers hold the file at once, a writer
// holds it alone.
//
// All locks here are open file description locks (F_OFD_SETLK, Linux 3.15).
// Such a lock belongs to the open file description, not to the process:
//
//   - it conflicts with the process-associated locks of F_SETLK, in both
//     directions, and with no lock of flock(2);
//   - it conflicts with a lock of the same process, if that was taken through
//     a description opened separately. The same description converts its own
//     lock instead;
//   - every copy of the descriptor (dup, fork, a descriptor that crosses
//     execve) shares it, and it ends when the last copy is closed or one of
//     them is unlocked;
//   - closing some other descriptor of the same file does not end it, which
//     it would with F_SETLK.
//
// On NFS the kernel passes the lock to the server, where other machines see
// it. On overlayfs a lock taken through the overlay and one taken on the lower
// or upper directory do not see each other.
//
// The functions take an *os.File, which stays the caller's: he closes it, and
// he keeps it reachable for as long as the lock is wanted, because a finalizer
// closes an *os.File that nobody refers to. All functions may be called
// concurrently, for the same file too.
package lock

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Mode is what a lock permits to others.
type Mode int16

const (
	// Read is shared with other readers. The file must be open for reading.
	Read Mode = unix.F_RDLCK
	// Write is exclusive. The file must be open for writing.
	Write Mode = unix.F_WRLCK
)

func (m Mode) String() string {
	switch m {
	case Read:
		return "read"
	case Write:
		return "write"
	}
	return fmt.Sprintf("Mode(%d)", int16(m))
}

var (
	// ErrBusy says that somebody else holds a lock that conflicts.
	ErrBusy = errors.New("locked by another")
	// ErrUnsupported says that the kernel or the file system has no open file
	// description locks, so that nothing can be said about who uses the file.
	ErrUnsupported = errors.New("open file description locks are not supported here")
)

// Try takes the lock without waiting, or converts the one that f's description
// has. It returns an error that is ErrBusy if somebody else's lock conflicts,
// and one that is ErrUnsupported if the kernel or the file system has no such
// locks. Any other error (EBADF for a descriptor opened for the wrong
// direction, ENOLCK) leaves open who uses the file too.
func Try(f *os.File, m Mode) error {
	return set(f, int16(m), m.String()+"-lock")
}

// Unlock gives the lock up, for every copy of f's descriptor. Closing the last
// copy does the same. Unlocking what is not locked is no error.
func Unlock(f *os.File) error {
	return set(f, unix.F_UNLCK, "unlock")
}

// Conflict is a lock that stands in the way.
type Conflict struct {
	Mode Mode
	// PID holds the lock. It is -1 for an open file description lock, which
	// several processes can share, and 0 for a process that has no number in
	// our PID namespace.
	PID int
}

// Probe tells which lock would make Try fail, without taking any: nil if none
// would. Of several it names one. A descriptor opened only for reading will do
// for both modes. A lock of f's own description does not count, one that the
// same process took through another description does. The answer is about an
// instant that has passed: it serves to inform, never to decide a deletion.
func Probe(f *os.File, m Mode) (*Conflict, error) {
	lk := wholeFile(int16(m))
	if err := fcntl(f, unix.F_OFD_GETLK, &lk, "probe the lock of"); err != nil {
		return nil, err
	}
	if lk.Type == unix.F_UNLCK {
		return nil, nil
	}
	return &Conflict{Mode: Mode(lk.Type), PID: int(lk.Pid)}, nil
}

// Inherit marks f so that it crosses execve(2), and the lock with it, and
// returns the descriptor's number, which stays the same. Everything that the
// process executes from now on gets it. f stays open and the caller's.
func Inherit(f *os.File) (fd int, err error) {
	err = control(f, func(n int) error {
		fd = n
		_, err := unix.FcntlInt(uintptr(n), unix.F_SETFD, 0)
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "hand on", Path: f.Name(), Err: err}
	}
	return fd, nil
}

func wholeFile(typ int16) unix.Flock_t {
	return unix.Flock_t{Type: typ, Whence: unix.SEEK_SET, Start: 0, Len: 0}
}

func set(f *os.File, typ int16, op string) error {
	lk := wholeFile(typ)
	return fcntl(f, unix.F_OFD_SETLK, &lk, op)
}

func fcntl(f *os.File, cmd int, lk *unix.Flock_t, op string) error {
	err := control(f, func(fd int) error {
		for {
			err := unix.FcntlFlock(uintptr(fd), cmd, lk)
			if err != unix.EINTR {
				return err
			}
		}
	})
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: f.Name(), Err: kindOf(err)}
}

// kindOf joins the kernel's error to the sentinel that it means.
func kindOf(err error) error {
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		// POSIX lets fcntl answer either of the two.
		return fmt.Errorf("%w (%w)", ErrBusy, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS),
		errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w (%w)", ErrUnsupported, err)
	}
	return err
}

// control calls fn with f's descriptor, which cannot be closed meanwhile.
func control(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if raw.Control(func(fd uintptr) { inner = fn(int(fd)) }) != nil {
		return os.ErrClosed // which is all that Control can fail for
	}
	runtime.KeepAlive(f)
	return inner
}
