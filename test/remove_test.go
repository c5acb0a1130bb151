package test

import (
	"strings"
	"testing"
)

// While one of a runtime's versions is in use the current one stays with it,
// and nobody is told to switch to another first.
func TestRemoveAllWhileOneIsInUse(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "1.1", "2.0")
	h := start(t, w.command("exec", "demo@1.0", "sh", "-c", waitScript))
	for _, c := range []struct {
		status int
		args   []string
	}{
		{75, []string{"remove", "demo", "--all"}},
		{0, []string{"remove", "demo", "--all", "--defer"}},
	} {
		r := w.must(c.status, c.args...)
		if !strings.Contains(r.stderr, "berth: demo@2.0 stays: it is current, and demo@1.0 is not removed yet\n") || strings.Contains(r.stderr, "switch") {
			t.Errorf("berth %q said:\n%s", c.args, r.stderr)
		}
	}
	r := w.must(75, "remove", "demo", "--all", "--json")
	if !strings.Contains(r.stdout, `{"name":"demo","version":"2.0","rule":"current","reason":"it is the current version, and demo@1.0 stays"`) {
		t.Errorf("the current version is not kept: %s", r.stdout)
	}
	if w.listed("demo@1.1") || !w.listed("demo@1.0") || !w.listed("demo@2.0") {
		t.Errorf("left are:\n%s", w.must(0, "list").stdout)
	}
	h.end()
	w.must(0, "remove", "demo", "--all")
	w.must(66, "list", "demo")
}
