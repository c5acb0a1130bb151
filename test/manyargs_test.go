package test

import (
	"slices"
	"strings"
	"testing"
)

// TestRunManyArguments finds where bubblewrap has had enough: below that the
// command runs, above it the status is a shell's.
func TestRunManyArguments(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	for _, how := range [][]string{{"run"}, {"run", "--supervise"}} {
		w.findsTheMost(append(how, "demo", "true"))
	}
}

func (w *world) findsTheMost(args []string) {
	t := w.t
	t.Helper()
	with := func(n int) result { return w.run(slices.Concat(args, slices.Repeat([]string{"x"}, n))...) }
	low, high := 0, 10000
	if r := with(low); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	for high-low > 1 {
		mid := (low + high) / 2
		if with(mid).status == 0 {
			low = mid
		} else {
			high = mid
		}
	}
	r := with(high)
	if r.status != 126 || !strings.Contains(r.stderr, "berth: cannot run \"true\"") {
		t.Fatalf("%d arguments: exit status %d, want 126\n%s", high, r.status, r.stderr)
	}
}
