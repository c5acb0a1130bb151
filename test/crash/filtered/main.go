// Command filtered executes a command under a seccomp filter, which makes some
// of its system calls stop for a tracer. The filter is a program for the
// kernel's BPF machine in hexadecimal digits.
package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: filtered FILTER COMMAND...")
		os.Exit(64)
	}
	// The filter is the thread's, and execve(2) keeps that of its caller.
	runtime.LockOSThread()
	err := install(os.Args[1])
	if err == nil {
		err = syscall.Exec(os.Args[2], os.Args[2:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "filtered:", err)
	os.Exit(126)
}

func install(text string) error {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return err
	}
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	if len(raw) == 0 || len(raw)%size != 0 {
		return fmt.Errorf("%d bytes are no filter", len(raw))
	}
	program := make([]unix.SockFilter, len(raw)/size)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&program[0])), len(raw)), raw)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	head := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&head)), 0, 0)
}
