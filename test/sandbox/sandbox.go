// Package sandbox is for test programs that mount things and run the built
// command.
package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// OwnMounts starts the program again in a mount namespace of its own, and
// returns there: nobody else gets a copy of its mounts, which would keep a disk
// busy after it has been unmounted, and the mounts and loop devices go with the
// program, however it ends. It has to be called before anything else is done.
func OwnMounts() error {
	const done = "BERTH_TEST_OWN_MOUNTS"
	if os.Getenv(done) != "" {
		return os.Unsetenv(done)
	}
	runtime.LockOSThread() // the namespace is the thread's until execve
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("needs root, for mount namespaces: unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), done+"=1"))
}

// Build builds the command into a directory.
func Build(dir string) (binary string, err error) {
	binary = filepath.Join(dir, "berth")
	build := exec.Command("go", "build", "-o", binary, "berth/cmd/berth")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("cannot build the command: %w", err)
	}
	return binary, nil
}
