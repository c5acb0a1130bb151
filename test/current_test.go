package test

import (
	"os"
	"path/filepath"
	"testing"
)

// Without a link, or with one that names nothing, no version is protected by
// being current. None may go for that.
func TestWithoutACurrentVersionNothingIsCollected(t *testing.T) {
	for _, target := range []string{"", "gone"} {
		w := newWorld(t)
		w.install("1", "2")
		link := filepath.Join(w.store, "runtimes/demo/current")
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		if target != "" {
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
		}
		w.must(74, "gc")
		if !w.listed("demo@1") || !w.listed("demo@2") {
			t.Errorf("current -> %q: collected", target)
		}
		// The next version is current, as the first one was.
		w.install("3")
		w.must(0, "exec", "demo", "true")
	}
}
