package crash

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ntPRStatus   = 1     // NT_PRSTATUS
	ntSystemCall = 0x404 // NT_ARM_SYSTEM_CALL
)

// failCall makes the thread, which is about to make a system call, make none,
// and gives it an error for result: see seccomp(2), SECCOMP_RET_TRACE.
func failCall(pid int, errno syscall.Errno) error {
	nr := int32(-1)
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&nr)), Len: uint64(unsafe.Sizeof(nr))}
	_, _, failed := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(pid), ntSystemCall, uintptr(unsafe.Pointer(&iov)), 0, 0)
	if failed != 0 {
		return failed
	}
	var regs unix.PtraceRegsArm64
	if err := unix.PtraceGetRegSetArm64(pid, ntPRStatus, &regs); err != nil {
		return err
	}
	regs.Regs[0] = -uint64(errno)
	return unix.PtraceSetRegSetArm64(pid, ntPRStatus, &regs)
}
