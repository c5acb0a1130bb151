package test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// When the child has been waited for, its number is free for any process. No
// signal may go there any more, while the supervisor waits for others.
func TestTheSupervisorSignalsNoNumberThatIsFree(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	trace := w.path("trace")
	cmd := w.command("-f", "-qq", "-e", "trace=kill", "-o", trace,
		binary, "exec", "--supervise", "demo", "sh", "-c", "echo $PPID > "+w.path("pid")+"; setsid sleep 3 & exit 0")
	cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
	go func() {
		time.Sleep(1500 * time.Millisecond)
		pid, err := os.ReadFile(w.path("pid"))
		if err != nil {
			t.Error(err)
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
		if err == nil {
			err = syscall.Kill(n, syscall.SIGTERM)
		}
		if err != nil {
			t.Error(err)
		}
	}()
	if r := w.finish(cmd); r.status != 0 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(calls), "--- SIGTERM") || strings.Contains(string(calls), "kill(") {
		t.Errorf("system calls:\n%s", calls)
	}
}
