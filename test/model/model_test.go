// Package model lets spin search through all runs of the protocol, and through
// protocols that lack one of its steps, which must fail.
package model

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

var (
	long = flag.Bool("long", false, "with two kills, which takes some minutes and gigabytes")

	configurations, states, caught, violations atomic.Int64
)

func TestMain(m *testing.M) {
	flag.Parse()
	status := m.Run()
	fmt.Printf("model: %d configurations, %d states, %d mutations caught, %d violations\n",
		configurations.Load(), states.Load(), caught.Load(), violations.Load())
	os.Exit(status)
}

const count = 12 // configurations

// mutations leave a step out, and break a promise in the configuration.
var mutations = map[string]int{
	"MUT_NO_SECOND_LOOK":           1,  // of the reader
	"MUT_DRAIN_NO_LOOK":            1,  // in /proc
	"MUT_NO_PROC_LOOK":             2,  // the collector's second
	"MUT_UNLOCK_EARLY":             3,  // before deleting
	"MUT_REF_LAST":                 3,  // deleted after the content
	"MUT_CURRENT_BEFORE_LOCK":      4,  // tested before the store lock
	"MUT_TWO_HOLDS":                5,  // of the store lock, for publish and switch
	"MUT_PIN_NO_LOCK":              7,  // a pin without a read lock
	"MUT_PIN_BEFORE_LOCK":          7,  // tested before the write lock
	"MUT_MARK_AFTER":               8,  // the deferral, after the attempt
	"MUT_SUPERVISOR_LOOKS_FIRST":   8,  // at the mark, and lets go then
	"MUT_NO_SETTLE_AFTER_EXCHANGE": 9,  // of the old tree
	"MUT_TWO_RENAMES":              10, // in place of the exchange
}

var (
	errorsFound  = regexp.MustCompile(`errors: (\d+)`)
	statesStored = regexp.MustCompile(`(\d+) states, stored`)
)

// search runs spin, and returns how many violations it found, in how many
// states. It is exhaustive, or fails.
func search(t *testing.T, defines ...string) (found, states int64) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("protocol.pml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "protocol.pml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("needs %s: %v\n%s", name, err, out)
		}
		return out
	}
	run("spin", append(defines, "-a", "protocol.pml")...)
	run("gcc", "-O1", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
	// -m is the longest run, -w the size of the table of states.
	out := run("./pan", "-m1000000", "-w24")
	number := func(pattern *regexp.Regexp) int64 {
		match := pattern.FindSubmatch(out)
		if match == nil || regexp.MustCompile("max search depth too small|out of memory").Match(out) {
			t.Fatalf("not searched through:\n%s", out)
		}
		n, err := strconv.ParseInt(string(match[1]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if found = number(errorsFound); found > 0 {
		if !strings.HasPrefix(t.Name(), "TestMutations") {
			t.Logf("%s\n%s", out, run("spin", append(defines, "-t", "-p", "protocol.pml")...))
		}
	}
	return found, number(statesStored)
}

func TestProtocol(t *testing.T) {
	kills := "-DKILLS=1"
	if *long {
		kills = "-DKILLS=2"
	}
	for config := 1; config <= count; config++ {
		t.Run(fmt.Sprint("configuration ", config), func(t *testing.T) {
			t.Parallel()
			found, n := search(t, fmt.Sprint("-DCONFIG=", config), kills)
			configurations.Add(1)
			states.Add(n)
			violations.Add(found)
			if found > 0 {
				t.Error("a promise is broken")
			}
		})
	}
}

func TestMutations(t *testing.T) {
	for mutation, config := range mutations {
		t.Run(mutation, func(t *testing.T) {
			t.Parallel()
			if found, _ := search(t, fmt.Sprint("-DCONFIG=", config), "-D"+mutation); found == 0 {
				t.Fatalf("configuration %d does not need the step", config)
			}
			caught.Add(1)
		})
	}
}
