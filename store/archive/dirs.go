package archive

import (
	"golang.org/x/sys/unix"
)

// maxHeld is how many directories a trail keeps open.
const maxHeld = 32

// A trail is a way down from a directory, as descriptors of the directories on
// it: whoever goes from one member to the next, which is in the same directory
// or near, opens only what differs. No part of the way is a symbolic link.
type trail struct {
	root  int // not the trail's to close
	parts []string
	fds   []int // -1: closed, there are too many
}

// cd goes to the directory with that path and returns its descriptor, which is
// good until the next call.
func (t *trail) cd(parts []string) (int, error) {
	same := 0
	for same < len(parts) && same < len(t.parts) && parts[same] == t.parts[same] {
		same++
	}
	t.cut(same)
	// Go back to where a directory is still open, and from there down.
	from := same
	for from > 0 && t.fds[from-1] < 0 {
		from--
	}
	t.cut(from)
	for ; from < len(parts); from++ {
		fd, err := openDir(t.fd(), parts[from])
		if err != nil {
			return -1, err
		}
		t.parts = append(t.parts, parts[from])
		t.fds = append(t.fds, fd)
		if old := len(t.fds) - 1 - maxHeld; old >= 0 && t.fds[old] >= 0 {
			unix.Close(t.fds[old])
			t.fds[old] = -1
		}
	}
	return t.fd(), nil
}

func (t *trail) fd() int {
	if len(t.fds) == 0 {
		return t.root
	}
	return t.fds[len(t.fds)-1]
}

// cut shortens the trail.
func (t *trail) cut(n int) {
	for _, fd := range t.fds[n:] {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	t.parts, t.fds = t.parts[:n], t.fds[:n]
}

func openDir(at int, name string) (int, error) {
	return openAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// openAt opens name in a directory, never through a symbolic link.
func openAt(at int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// retry calls again what a signal has interrupted.
func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}
