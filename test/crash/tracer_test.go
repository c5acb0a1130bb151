package crash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A call is a system call that a thread of the command is about to make.
type call struct {
	nr   uint64
	args [6]uint64
}

// An outcome is how a traced run of the command ended.
type outcome struct {
	calls  int  // that change something, over all threads
	at     call // the one that was chosen
	hit    bool // whether there was one
	status int  // the exit status, -1 if it was killed
	stderr string
	// unsynced is what it failed to make durable and did not try again.
	unsynced string
}

// trace runs the command, all threads of it, to the point-th system call that
// changes something. There it is killed, if errno is 0, or else the call fails
// with errno in place of being made. A point of 0 is none.
//
// strace's own counting is by thread, and a Go program is many.
func trace(cmd *exec.Cmd, point int, errno syscall.Errno) (*outcome, error) {
	// A tracer is a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Args = append([]string{filtered, stops, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = filtered
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &tracer{pid: cmd.Process.Pid, point: point, errno: errno}
	err := t.run()
	if err != nil {
		t.end()
	}
	// The output is read to its end; the process has been waited for.
	_ = cmd.Wait()
	t.out.stderr = stderr.String()
	return &t.out, err
}

type tracer struct {
	pid       int
	point     int
	errno     syscall.Errno
	out       outcome
	attached  bool
	commanded bool // the filter is in place, and the command runs
}

func (t *tracer) run() error {
	t.out.status = -1
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-t.pid, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case pid == t.pid && ws.Exited():
			// The last thread has gone, and nobody is left to wait for.
			t.out.status = ws.ExitStatus()
			return nil
		case pid == t.pid && ws.Signaled():
			return nil
		case !ws.Stopped():
			continue
		}
		signal, err := t.stopped(pid, ws)
		if err == nil || gone(err) {
			err = unix.PtraceCont(pid, signal)
		}
		if err != nil && !gone(err) {
			return fmt.Errorf("trace: %w", err)
		}
	}
}

// gone tells whether a thread is not there any more to be traced, or its files
// are not: it is being killed, or another one has ended the process.
func gone(err error) bool { return errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) }

// end kills the command and waits for all of its threads: the process is not
// over before its tracer has seen the end of each.
func (t *tracer) end() {
	_ = unix.Kill(-t.pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(-t.pid, nil, unix.WALL, nil); err != nil && err != unix.EINTR {
			return
		}
	}
}

// stopped returns the signal that the thread is to go on with.
func (t *tracer) stopped(pid int, ws unix.WaitStatus) (int, error) {
	switch {
	case !t.attached:
		t.attached = true
		return 0, unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESECCOMP|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_EXITKILL)
	case ws.StopSignal() == unix.SIGSTOP: // a new thread
		return 0, nil
	case ws.StopSignal() != unix.SIGTRAP:
		return int(ws.StopSignal()), nil
	}
	switch ws.TrapCause() {
	case unix.PTRACE_EVENT_EXEC:
		t.commanded = true
	case unix.PTRACE_EVENT_SECCOMP:
		return 0, t.entered(pid)
	}
	return 0, nil
}

// entered looks at a thread that is about to make a system call.
func (t *tracer) entered(pid int) error {
	info, err := syscallInfo(pid)
	if err != nil || !t.commanded {
		return err
	}
	c := call{info.nr, info.args}
	if changes, err := c.changes(pid); !changes || err != nil {
		return err
	}
	synced, err := c.syncs(pid)
	if err != nil {
		return err
	}
	if synced == t.out.unsynced {
		t.out.unsynced = ""
	}
	if t.out.calls++; t.out.calls != t.point {
		return nil
	}
	t.out.hit, t.out.at = true, c
	if t.errno == 0 {
		return unix.Kill(-t.pid, unix.SIGKILL)
	}
	t.out.unsynced = synced
	return failCall(pid, t.errno)
}

// changes tells whether the call is a point to stop at. What is written to
// people, or from one thread of the runtime to another, is none.
func (c call) changes(pid int) (bool, error) {
	switch c.nr {
	case unix.SYS_WRITE, unix.SYS_WRITEV:
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(c.args[0])))
		return c.args[0] > 2 && strings.HasPrefix(to, "/"), err
	case unix.SYS_OPENAT2:
		var how unix.OpenHow
		raw := make([]byte, unsafe.Sizeof(how.Flags))
		_, err := unix.PtracePeekData(pid, uintptr(c.args[2]), raw)
		return binary.NativeEndian.Uint64(raw)&makes != 0, err
	}
	return true, nil
}

const ptraceGetSyscallInfo = 0x420e

// info is struct ptrace_syscall_info of ptrace(2), at a stop by a filter.
type info struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64
	args [6]uint64
}

func syscallInfo(pid int) (*info, error) {
	const bySeccomp = 3
	in := new(info)
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(pid), unsafe.Sizeof(*in), uintptr(unsafe.Pointer(in)), 0, 0)
	switch {
	case errno != 0:
		return nil, errno
	case in.op != bySeccomp:
		return nil, fmt.Errorf("stopped in a state %d", in.op)
	}
	return in, nil
}
