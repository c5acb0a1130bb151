// Package race lets programs of every kind use versions of a runtime while
// several processes of the built command install, switch and collect them.
package race

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"berth/test/sandbox"
)

var (
	long     = flag.Bool("long", false, "ten minutes instead of one")
	duration = flag.Duration("duration", 0, "how long instead")
	seed     = flag.Uint64("seed", 0, "of what is done; 0: a new one")
)

// binary is the command under test, built by TestMain.
var binary string

// total is what the last line of the output says.
var total struct {
	runs, refused, changes, violations int
}

func TestMain(m *testing.M) {
	// The programs that berth exec starts are this one.
	if how := os.Getenv(walkVariable); how != "" {
		os.Exit(walkMain(how))
	}
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
	if *duration == 0 {
		if *duration = time.Minute; *long {
			*duration = 10 * time.Minute
		}
	}
	dir, err := os.MkdirTemp("", "berth-race-")
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
	if total.changes > 0 {
		fmt.Printf("race: %d reader runs, %d refused, %d store changes, %d violations\n",
			total.runs, total.refused, total.changes, total.violations)
	}
	return status
}
