package crash

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
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
}

// trace runs the command, all threads of it, to the point-th system call that
// changes something. There it is killed, if errno is 0, or else the call fails
// with errno in place of being made. A point of 0 is none.
//
// strace's own counting is by thread, and a Go program is many.
//
// A filter (seccomp(2)) stops the threads at the calls that may be meant, and
// lets all others run at full speed.
func trace(cmd *exec.Cmd, point int, errno syscall.Errno) (*outcome, error) {
	// A tracer is a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Args = append([]string{"filtered"}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	cmd.Env = append(cmd.Env, filterMark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &tracer{pid: cmd.Process.Pid, point: point, errno: errno}
	err := t.run()
	// The output is read to its end; the process has been waited for.
	_ = cmd.Wait()
	t.out.stderr = stderr.String()
	return &t.out, err
}

type tracer struct {
	pid   int
	point int
	errno syscall.Errno
	out   outcome
}

func (t *tracer) run() error {
	t.out.status = -1
	started := false
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-t.pid, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return nil
		case err != nil:
			return err
		}
		if ws.Exited() || ws.Signaled() {
			if pid == t.pid && ws.Exited() {
				t.out.status = ws.ExitStatus()
			}
			if pid == t.pid {
				// The last thread has gone, and nobody is left to wait for.
				return nil
			}
			continue
		}
		signal := 0
		switch {
		case !started && pid == t.pid:
			started = true
			const options = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
			if err := unix.PtraceSetOptions(pid, options); err != nil {
				return fmt.Errorf("set the options of ptrace: %w", err)
			}
		case ws.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
			if err := t.stopped(pid); err != nil && err != unix.ESRCH {
				return err
			}
		case ws.StopSignal() == unix.SIGTRAP && ws.TrapCause() > 0, ws.StopSignal() == unix.SIGSTOP:
			// A new thread, or another program.
		default:
			signal = int(ws.StopSignal())
		}
		if err := unix.PtraceCont(pid, signal); err != nil && err != unix.ESRCH {
			return fmt.Errorf("go on: %w", err)
		}
	}
}

// stopped looks at a thread at the entry of a system call.
func (t *tracer) stopped(pid int) error {
	info, err := syscallInfo(pid)
	if err != nil {
		return err
	}
	c := call{info.nr, info.args}
	if !c.changes() {
		return nil
	}
	if t.out.calls++; t.out.calls != t.point {
		return nil
	}
	t.out.hit, t.out.at = true, c
	if t.errno == 0 {
		return unix.Kill(-t.pid, unix.SIGKILL)
	}
	return failCall(pid, t.errno)
}

const ptraceGetSyscallInfo = 0x420e

// info is struct ptrace_syscall_info of ptrace(2), as at the stop of a filter.
type info struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64
	args [6]uint64
	_    uint64
}

func syscallInfo(pid int) (*info, error) {
	in := new(info)
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(pid), unsafe.Sizeof(*in), uintptr(unsafe.Pointer(in)), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return in, nil
}
