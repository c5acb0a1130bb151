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

// inside has one of these as its value in the processes that do the work.
const (
	inside  = "BERTH_CRASH_INSIDE"
	alone   = "alone"   // in a PID namespace: the command reads all of /proc, thousands of times
	sighted = "sighted" // where it can see all processes
)

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

// outside runs the tests once more, in namespaces of their own, with which the
// tmpfs goes however they end.
func outside() (status int, err error) {
	for how, flags := range map[string]uintptr{alone: unix.CLONE_NEWPID, sighted: 0} {
		one, err := within(how, flags|unix.CLONE_NEWNS)
		if err != nil {
			return 0, err
		}
		status = max(status, one)
	}
	fmt.Printf("crash: %d points killed, %d points failed with an error, %d violations\n", killed.Load(), failed.Load(), violations.Load())
	return status, nil
}

// within runs those that are for one of the two, and adds up what they say on a
// pipe.
func within(how string, flags uintptr) (status int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+how)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: unix.SIGKILL}
	err = cmd.Run()
	w.Close()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("cannot make namespaces: %w", err)
	}
	var counts [3]int64
	if _, err := fmt.Fscan(r, &counts[0], &counts[1], &counts[2]); err != nil {
		return 0, fmt.Errorf("the tests did not come to their end: %w", err)
	}
	killed.Add(counts[0])
	failed.Add(counts[1])
	violations.Add(counts[2])
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
	fmt.Fprintf(os.NewFile(3, "counts"), "%d %d %d\n", killed.Load(), failed.Load(), violations.Load())
	return status, nil
}
