package crash

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// skipCall makes the thread at the entry of a call make none.
func skipCall(pid int) error {
	return changeRegs(pid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
}

// setResult gives the call that was skipped its result.
func setResult(pid int, errno syscall.Errno) error {
	return changeRegs(pid, func(r *unix.PtraceRegs) { r.Rax = -uint64(errno) })
}

func changeRegs(pid int, change func(*unix.PtraceRegs)) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	change(&regs)
	return unix.PtraceSetRegs(pid, &regs)
}
