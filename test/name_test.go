package test

import (
	"strings"
	"testing"
	"time"
)

// A reader that has read the link, and is then slow, finds what it named gone.
// There is a current version at every instant, and he must get that.
func TestASlowReaderOfANameGetsTheNewVersion(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	second := w.smallArchive("2")
	cmd := w.command("-f", "-o", "/dev/null", "-e", "trace=readlinkat", "-e", "inject=readlinkat:delay_exit=3000000",
		binary, "exec", "demo", "sh", "-c", "echo $BERTH_REF")
	cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
	slow := make(chan result)
	go func() { slow <- w.finish(cmd) }()
	time.Sleep(time.Second)
	w.must(0, "install", second, "--switch")
	w.must(0, "remove", "demo@1")
	if r := <-slow; r.status != 0 || strings.TrimSpace(r.stdout) != "demo@2" {
		t.Errorf("exit status %d, ran on %q, want demo@2\n%s", r.status, r.stdout, r.stderr)
	}
}
