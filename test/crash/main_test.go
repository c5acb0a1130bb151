// Package crash kills the command at every system call that changes something,
// and lets every one of them fail, and looks what is left.
package crash

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
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

func TestMain(m *testing.M) {
	if os.Getenv(filterMark) != "" {
		fmt.Fprintln(os.Stderr, become(os.Args[1:]))
		os.Exit(127)
	}
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "berth-crash-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "berth/cmd/berth", "berth/test/crash/filtered")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fail(fmt.Errorf("cannot build the command: %w", err))
	}
	berth, filtered, stops = filepath.Join(dir, "berth"), filepath.Join(dir, "filtered"), filter()
	disk = filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		return fail(err)
	}
	if err := unix.Mount("berth-crash", disk, "tmpfs", 0, "mode=0755"); err != nil {
		return fail(fmt.Errorf("cannot mount a tmpfs: %w", err))
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	status := m.Run()
	fmt.Printf("crash: %d points killed, %d points failed with an error, %d violations\n", killed.Load(), failed.Load(), violations.Load())
	return status
}
