package crash

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// failCall makes the thread at the entry of a call make none, and gives it the
// result.
func failCall(pid int, errno syscall.Errno) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	regs.Orig_rax, regs.Rax = ^uint64(0), -uint64(errno)
	return unix.PtraceSetRegs(pid, &regs)
}
