package test

import (
	"strings"
	"testing"
)

// What nohup(1) and a shell's background job have set must reach the command.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	for _, how := range []string{"", "--supervise"} {
		cmd := w.command("-c", "trap '' HUP INT; exec "+binary+" exec "+how+" demo grep SigIgn /proc/self/status")
		cmd.Path, cmd.Args[0] = "/bin/sh", "sh"
		r := w.finish(cmd)
		if !strings.HasSuffix(strings.TrimSpace(r.stdout), "3") {
			t.Errorf("exec %s: %q, want the signals 1 and 2 ignored\n%s", how, r.stdout, r.stderr)
		}
	}
}
