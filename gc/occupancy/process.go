package occupancy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// procfs is an open proc(5).
type procfs struct {
	dir  *os.File
	self int // our own number in it
}

func openProc(root string) (*procfs, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	p := &procfs{dir: dir}
	if err := p.check(); err != nil {
		dir.Close()
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	return p, nil
}

func (p *procfs) check() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(p.fd(), &st); err != nil {
		return err
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("not a procfs")
	}
	self, err := readlink(p.fd(), "self", make([]byte, 64))
	if err != nil {
		return fmt.Errorf("we are not in it: %w", err)
	}
	p.self, err = strconv.Atoi(self)
	return err
}

func (p *procfs) fd() int { return int(p.dir.Fd()) }

func (p *procfs) Close() error { return p.dir.Close() }

// selfLink reads the path of one of our own descriptors.
func (p *procfs) selfLink(fd int, buf []byte) (string, error) {
	return readlink(p.fd(), "self/fd/"+strconv.Itoa(fd), buf)
}

// pids lists the processes.
func (p *procfs) pids(buf []byte) ([]int, error) {
	return numbers(p.fd(), ".", buf)
}

// linkSize holds the longest link, which procfs cuts off at a page.
const linkSize = 1 << 16

func readlink(dir int, name string, buf []byte) (string, error) {
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// readFile reads a whole file of /proc into the buffer, which it lets grow.
func readFile(dir int, name string, buf *[]byte) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	for n := 0; ; {
		if len(*buf)-n < 1<<14 {
			*buf = append(*buf, make([]byte, len(*buf)+1<<16)...)
		}
		got, err := unix.Read(fd, (*buf)[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		}
		if got == 0 {
			return (*buf)[:n], nil
		}
		n += got
	}
}

// numbers lists the entries of a directory that are numbers.
func numbers(dir int, name string, buf []byte) ([]int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var found []int
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "list", Path: name, Err: err}
		}
		if n == 0 {
			return found, nil
		}
		// struct linux_dirent64: ino, off, reclen (2 bytes), type, name.
		for rest := buf[:n]; len(rest) > 19; {
			size := int(binary.NativeEndian.Uint16(rest[16:]))
			entry := rest[19:size]
			if i := bytes.IndexByte(entry, 0); i >= 0 {
				entry = entry[:i]
			}
			if number, ok := decimal(entry); ok {
				found = append(found, number)
			}
			rest = rest[size:]
		}
	}
}

func decimal(text []byte) (n int, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' || n > 1<<40 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(text) > 0
}

// gone says that the process ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}

func refused(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// status is what proc_pid_stat(5) says.
type status struct {
	state   byte
	kernel  bool // a thread of the kernel
	threads int
	since   time.Duration // from boot
}

const (
	kernelThread = 0x00200000 // PF_KTHREAD
	clockTick    = time.Second / 100
)

var errStat = errors.New("is no stat of a process")

// parseStat finds its way past the command's name, which may hold anything.
func parseStat(text string) (s status, err error) {
	end := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	if end < 0 || len(fields) < 20 {
		return s, fmt.Errorf("%s %w", strconv.Quote(text), errStat)
	}
	s.state = fields[0][0]
	flags, err1 := strconv.ParseUint(fields[6], 10, 64)
	threads, err2 := strconv.Atoi(fields[17])
	ticks, err3 := strconv.ParseInt(fields[19], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return s, fmt.Errorf("%s %w", strconv.Quote(text), errStat)
	}
	s.kernel, s.threads = flags&kernelThread != 0, threads
	s.since = time.Duration(ticks) * clockTick
	return s, nil
}

func (s status) dead() bool { return s.state == 'Z' || s.state == 'X' }

func (w *worker) status(dir int) (status, error) {
	text, err := readFile(dir, "stat", &w.file)
	if err != nil {
		return status{}, err
	}
	return parseStat(string(text))
}

// openProcess opens the directory of a process. If its first thread has ended
// before the others it is the directory of one of those threads. It returns -1
// if there is nothing to look at.
func (w *worker) openProcess(pid int) (dir int, thread bool, err error) {
	name := strconv.Itoa(pid)
	dir, err = unix.Openat(w.proc.fd(), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		err = &os.PathError{Op: "open", Path: name, Err: err}
		if gone(err) {
			return -1, false, nil
		}
		return -1, false, err
	}
	_, err = readlink(dir, "exe", w.link)
	if err == nil || !gone(err) && !refused(err) {
		return dir, false, nil
	}
	// No executable: a kernel thread, a zombie, or a process about to end.
	// Of the first two an unprivileged caller learns only that he may not.
	st, err := w.status(dir)
	switch {
	case err == nil && (st.kernel || st.dead() && st.threads <= 1), gone(err):
		unix.Close(dir)
		return -1, false, nil
	case err == nil && st.dead():
		survivor, err := w.survivor(dir)
		unix.Close(dir)
		return survivor, true, err
	}
	return dir, false, nil
}

func (w *worker) survivor(dir int) (int, error) {
	threads, err := numbers(dir, "task", w.entries)
	if err != nil && !gone(err) && !refused(err) {
		return -1, err
	}
	for _, tid := range threads {
		thread, err := unix.Openat(dir, fmt.Sprintf("task/%d", tid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if st, err := w.status(thread); err == nil && !st.dead() {
			return thread, nil
		}
		unix.Close(thread)
	}
	return -1, nil
}
