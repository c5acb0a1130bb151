package crash

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// names are the system calls that change something on disk, and those that
// order the changes.
var names = map[uint64]string{
	unix.SYS_OPENAT: "openat", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64", unix.SYS_WRITEV: "writev",
	unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate", unix.SYS_COPY_FILE_RANGE: "copy_file_range",
	unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINKAT: "linkat", unix.SYS_SYMLINKAT: "symlinkat",
	unix.SYS_UNLINKAT: "unlinkat", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat",
	unix.SYS_FCHOWNAT: "fchownat", unix.SYS_UTIMENSAT: "utimensat", unix.SYS_FSETXATTR: "fsetxattr",
	unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_SYNCFS: "syncfs", unix.SYS_SYNC_FILE_RANGE: "sync_file_range",
	unix.SYS_FCNTL: "fcntl",
}

func (c call) String() string {
	if name := names[c.nr]; name != "" {
		return name
	}
	return fmt.Sprint("system call ", c.nr)
}

// changes tells whether the call is a point to stop at.
func (c call) changes() bool {
	if names[c.nr] == "" {
		return false
	}
	switch c.nr {
	case unix.SYS_OPENAT:
		return c.args[2]&(unix.O_CREAT|unix.O_TRUNC) != 0
	case unix.SYS_WRITE, unix.SYS_WRITEV:
		return c.args[0] > 2 // not what is said to people
	case unix.SYS_FCNTL:
		return c.args[1] == unix.F_OFD_SETLK
	}
	return true
}
