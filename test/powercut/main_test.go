// Package powercut cuts the power under the built command: it copies the disk
// that the store is on at some moment of a command's run, and looks at what a
// machine would find that starts again with the copy.
//
// The disk is a file behind a loop device, on a file system that shares blocks
// between files. Copying the file by FICLONE is one step for it: the copy has
// everything that the file system had written by then, and nothing later. What
// is in the page cache and the journal's memory only is lost, as it is when the
// power goes.
package powercut

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"berth/test/sandbox"
)

var (
	long = flag.Bool("long", false, "ten times as many cuts")
	seed = flag.Uint64("seed", 0, "of the schedule; 0: a new one")
)

// binary is the command under test, built by TestMain.
var binary string

// count is what the last line of the output says.
var count struct {
	sync.Mutex
	cuts       map[string]int // by file system
	violations int
}

func TestMain(m *testing.M) {
	if err := sandbox.OwnMounts(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	flag.Parse()
	for *seed == 0 {
		*seed = rand.Uint64N(1e6)
	}
	count.cuts = make(map[string]int)
	dir, err := os.MkdirTemp("", "berth-powercut-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = sandbox.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	total := 0
	for _, n := range count.cuts {
		total += n
	}
	if total > 0 {
		fmt.Printf("powercut: %d cuts, %d ext4, %d xfs, %d btrfs, %d violations\n",
			total, count.cuts["ext4"], count.cuts["xfs"], count.cuts["btrfs"], count.violations)
	}
	return status
}

func rounds() int {
	if *long {
		return 10
	}
	return 1
}

// violation reports a broken promise.
func violation(t *testing.T, format string, args ...any) {
	t.Helper()
	count.Lock()
	count.violations++
	count.Unlock()
	t.Errorf(format, args...)
}
