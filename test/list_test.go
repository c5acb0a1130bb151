package test

import (
	"strings"
	"testing"
)

// What is used without a lock is in use as well, and who keeps what is deferred
// is named.
func TestListShowsUseWithoutALock(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	if list := w.must(0, "list", "--json").stdout; strings.Count(list, `"in_use":"no","holders":0`) != 2 {
		t.Errorf("nobody uses anything:\n%s", list)
	}
	w.occupy("demo@1.0")
	if list := w.must(0, "list", "--json").stdout; strings.Count(list, `"in_use":"yes","holders":1`) != 1 {
		t.Errorf("one is in use:\n%s", list)
	}
	if r := w.must(0, "remove", "--defer", "demo@1.0"); !strings.Contains(r.stderr, "once it is free, the next gc removes it") {
		t.Errorf("what becomes of it is not said: %s", r.stderr)
	}
	if list := w.must(0, "list").stdout; !strings.Contains(list, "in use (1), deferred now, in use by sleep (pid ") {
		t.Errorf("who keeps the deferred version is not named:\n%s", list)
	}
}
