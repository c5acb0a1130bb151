package crash

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// failCall makes the thread, which is about to make a system call, make none,
// and gives it an error for result: see seccomp(2), SECCOMP_RET_TRACE.
func failCall(pid int, errno syscall.Errno) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	regs.Orig_rax, regs.Rax = ^uint64(0), -uint64(errno)
	return unix.PtraceSetRegs(pid, &regs)
}
