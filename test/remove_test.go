package test

import (
	"os"
	"path/filepath"
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
	if !strings.Contains(r.stdout, `"rule":"in-use","reason":"it is in use","processes":[{"pid":`) {
		t.Errorf("who keeps it is not in the document: %s", r.stdout)
	}
	if w.listed("demo@1.1") || !w.listed("demo@1.0") || !w.listed("demo@2.0") {
		t.Errorf("left are:\n%s", w.must(0, "list").stdout)
	}
	h.end()
	w.must(0, "remove", "demo", "--all", "--wait", "10s")
	w.must(66, "list", "demo")
}

// What waits in the trash is shown under its name, and goes for one reason,
// whole or not.
func TestTheTrashHasNames(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	if err := os.Rename(filepath.Dir(w.files("demo@1.0")), filepath.Join(w.store, "trash/demo@1.0.abcdefgh")); err != nil {
		t.Fatal(err)
	}
	if r := w.must(0, "list", "demo"); r.stdout != "demo\t1.0\t-\t-\tin the trash\n" {
		t.Errorf("list: %q", r.stdout)
	}
	w.must(66, "list", "other")
	if r := w.must(0, "gc", "--dry-run"); !strings.HasSuffix(r.stdout, "it was in the trash\n") {
		t.Errorf("gc --dry-run: %q", r.stdout)
	}
	if r := w.must(0, "gc"); !strings.HasSuffix(r.stdout, "it was in the trash\n") {
		t.Errorf("gc: %q", r.stdout)
	}
	w.must(66, "list", "demo")
}
