package crash

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// names are the system calls that change something on disk, and those that
// order the changes.
var names = map[uint64]string{
	unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_MKNODAT: "mknodat",
	unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64", unix.SYS_WRITEV: "writev", unix.SYS_PWRITEV: "pwritev", unix.SYS_PWRITEV2: "pwritev2",
	unix.SYS_TRUNCATE: "truncate", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate",
	unix.SYS_COPY_FILE_RANGE: "copy_file_range", unix.SYS_SENDFILE: "sendfile", unix.SYS_SPLICE: "splice",
	unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINKAT: "linkat", unix.SYS_SYMLINKAT: "symlinkat",
	unix.SYS_UNLINKAT: "unlinkat", unix.SYS_MKDIRAT: "mkdirat",
	unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHMODAT2: "fchmodat2",
	unix.SYS_FCHOWN: "fchown", unix.SYS_FCHOWNAT: "fchownat", unix.SYS_UTIMENSAT: "utimensat",
	unix.SYS_SETXATTR: "setxattr", unix.SYS_LSETXATTR: "lsetxattr", unix.SYS_FSETXATTR: "fsetxattr",
	unix.SYS_REMOVEXATTR: "removexattr", unix.SYS_LREMOVEXATTR: "lremovexattr", unix.SYS_FREMOVEXATTR: "fremovexattr",
	unix.SYS_SYNC: "sync", unix.SYS_SYNCFS: "syncfs", unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_SYNC_FILE_RANGE: "sync_file_range",
	unix.SYS_FCNTL: "fcntl",
}

const makes = unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY

func (c call) String() string {
	if name := names[c.nr]; name != "" {
		return name
	}
	return fmt.Sprint("system call ", c.nr)
}

// syncs says what the call makes durable: "" if nothing.
func (c call) syncs(pid int) (string, error) {
	switch c.nr {
	case unix.SYS_SYNCFS, unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		return os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(c.args[0])))
	}
	return "", nil
}

// filter is the program for seccomp(2), in hexadecimal digits, that makes the
// calls of names stop, but for the most frequent of the harmless ones.
func filter() string {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		common = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K

		number = 0  // in struct seccomp_data
		args   = 16 // of 8 bytes each, the lower half first
	)
	stop := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_TRACE}
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	program := []unix.SockFilter{{Code: load, K: number}}
	for _, nr := range slices.Sorted(maps.Keys(names)) {
		var body []unix.SockFilter
		switch nr {
		case unix.SYS_OPENAT:
			body = []unix.SockFilter{{Code: load, K: args + 2*8}, {Code: common, K: makes, Jf: 1}, stop, allow}
		case unix.SYS_FCNTL:
			body = []unix.SockFilter{{Code: load, K: args + 1*8}, {Code: equal, K: unix.F_OFD_SETLK, Jf: 1}, stop, allow}
		default:
			body = []unix.SockFilter{stop}
		}
		program = append(program, unix.SockFilter{Code: equal, K: uint32(nr), Jf: uint8(len(body))})
		program = append(program, body...)
	}
	program = append(program, allow)
	return hex.EncodeToString(unsafe.Slice((*byte)(unsafe.Pointer(&program[0])), len(program)*int(unsafe.Sizeof(allow))))
}
