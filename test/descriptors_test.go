package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// More versions than the process may have descriptors.
func TestFewDescriptorsAreEnough(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	demo := filepath.Join(w.store, "runtimes/demo")
	const more = 300
	for i := range more {
		if err := os.CopyFS(filepath.Join(demo, fmt.Sprint(i+2)), os.DirFS(filepath.Join(demo, "1"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, verb := range []string{"ps", "gc"} {
		cmd := w.command("-c", "ulimit -n 256; exec "+binary+" --config "+w.path("config.toml")+" "+verb)
		cmd.Path, cmd.Args[0] = "/bin/sh", "sh"
		r := w.finish(cmd)
		if r.status != 0 {
			t.Errorf("%s: exit status %d\n%s", verb, r.status, r.stderr)
		}
		if n := strings.Count(r.stdout, "removed"); verb == "gc" && n != more {
			t.Errorf("gc removed %d, want %d", n, more)
		}
	}
}
