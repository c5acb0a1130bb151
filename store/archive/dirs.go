package archive

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxHeld is how many directories a trail keeps open.
const maxHeld = 32

// A held directory is open until the last of its users has left it.
type held struct {
	fd    int
	users atomic.Int32
}

func hold(fd int) *held {
	h := &held{fd: fd}
	h.users.Store(1)
	return h
}

// keep makes one more user.
func (h *held) keep() *held {
	h.users.Add(1)
	return h
}

func (h *held) leave() {
	if h.users.Add(-1) == 0 {
		unix.Close(h.fd)
	}
}

// A trail is a way down from a directory, as descriptors of the directories on
// it: whoever goes from one member to the next, which is in the same directory
// or near, opens only what differs. No part of the way is a symbolic link.
type trail struct {
	root  *held // not the trail's to leave
	parts []string
	dirs  []*held // nil: left, there are too many
}

// cd goes to the directory with that path and returns its descriptor, which is
// good until the next call.
func (t *trail) cd(parts []string) (int, error) {
	dir, err := t.enter(parts)
	if err != nil {
		return -1, err
	}
	return dir.fd, nil
}

// enter does the same for whoever wants to keep the directory.
func (t *trail) enter(parts []string) (*held, error) {
	same := 0
	for same < len(parts) && same < len(t.parts) && parts[same] == t.parts[same] {
		same++
	}
	t.cut(same)
	// Go back to where a directory is still open, and from there down.
	from := same
	for from > 0 && t.dirs[from-1] == nil {
		from--
	}
	t.cut(from)
	for ; from < len(parts); from++ {
		fd, err := openDir(t.last().fd, parts[from])
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, parts[from])
		t.dirs = append(t.dirs, hold(fd))
		if old := len(t.dirs) - 1 - maxHeld; old >= 0 && t.dirs[old] != nil {
			t.dirs[old].leave()
			t.dirs[old] = nil
		}
	}
	return t.last(), nil
}

func (t *trail) last() *held {
	if len(t.dirs) == 0 {
		return t.root
	}
	return t.dirs[len(t.dirs)-1]
}

// cut shortens the trail.
func (t *trail) cut(n int) {
	for _, dir := range t.dirs[n:] {
		if dir != nil {
			dir.leave()
		}
	}
	t.parts, t.dirs = t.parts[:n], t.dirs[:n]
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
