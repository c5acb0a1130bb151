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

// skipCall makes the thread at the entry of a call make none.
func skipCall(pid int) error {
	nr := int32(-1)
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&nr)), Len: uint64(unsafe.Sizeof(nr))}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(pid), ntSystemCall, uintptr(unsafe.Pointer(&iov)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// setResult gives the call that was skipped its result.
func setResult(pid int, errno syscall.Errno) error {
	var regs unix.PtraceRegsArm64
	if err := unix.PtraceGetRegSetArm64(pid, ntPRStatus, &regs); err != nil {
		return err
	}
	regs.Regs[0] = -uint64(errno)
	return unix.PtraceSetRegSetArm64(pid, ntPRStatus, &regs)
}
