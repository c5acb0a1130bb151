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

// failCall makes the thread at the entry of a call make none, and gives it the
// result.
func failCall(pid int, errno syscall.Errno) error {
	nr := int32(-1)
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&nr)), Len: uint64(unsafe.Sizeof(nr))}
	_, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(pid), ntSystemCall, uintptr(unsafe.Pointer(&iov)), 0, 0)
	if e != 0 {
		return e
	}
	var regs unix.PtraceRegsArm64
	if err := unix.PtraceGetRegSetArm64(pid, ntPRStatus, &regs); err != nil {
		return err
	}
	regs.Regs[0] = -uint64(errno)
	return unix.PtraceSetRegSetArm64(pid, ntPRStatus, &regs)
}
