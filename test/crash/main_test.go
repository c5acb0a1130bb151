// Package crash kills the command at every system call that changes something,
// and lets every one of them fail, and looks what is left.
package crash

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	long = flag.Bool("long", false, "try every error at every point, not one in turn")

	berth    string // the command under test
	filtered string // executes it under the filter stops
	stops    string
	disk     string // a tmpfs: a kill loses nothing of the page cache

	killed, failed, violations atomic.Int64
)

const inside = "BERTH_CRASH_INSIDE"

func TestMain(m *testing.M) {
	flag.Parse()
	start := outside
	if os.Getenv(inside) != "" {
		start = func() (int, error) { return testMain(m) }
	}
	status, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// outside runs the tests once more, in namespaces of their own: the command
// reads all of /proc, thousands of times, and the tmpfs goes with them however
// they end.
func outside() (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("cannot make namespaces: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

func testMain(m *testing.M) (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("cannot make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 0, fmt.Errorf("cannot mount proc: %w", err)
	}
	dir, err := os.MkdirTemp("", "berth-crash-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "berth/cmd/berth", "berth/test/crash/filtered")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("cannot build the command: %w", err)
	}
	berth, filtered, stops = filepath.Join(dir, "berth"), filepath.Join(dir, "filtered"), filter()
	disk = filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		return 0, err
	}
	if err := unix.Mount("berth-crash", disk, "tmpfs", 0, "mode=0755"); err != nil {
		return 0, fmt.Errorf("cannot mount a tmpfs: %w", err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	status := m.Run()
	fmt.Printf("crash: %d points killed, %d points failed with an error, %d violations\n", killed.Load(), failed.Load(), violations.Load())
	return status, nil
}
