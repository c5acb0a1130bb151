package test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopped runs a command until it has made a system call, and returns what lets
// it go on to its end.
func (w *world) stopped(call string, args ...string) (goOn func() result) {
	w.t.Helper()
	trace := w.path("trace")
	cmd := w.command(append([]string{"-f", "-qq", "-o", trace, "-e", "trace=" + call, "-e", "inject=" + call + ":signal=STOP:when=1", binary}, args...)...)
	cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
	done := make(chan result)
	go func() { done <- w.finish(cmd) }()
	var thread int
	eventually(w.t, "it has stopped", func() bool {
		text, _ := os.ReadFile(trace)
		_, err := fmt.Sscan(string(text), &thread)
		return err == nil && strings.Contains(string(text), "stopped by SIGSTOP")
	})
	return func() result {
		// Every thread of it stops at its first call.
		for {
			_ = syscall.Kill(thread, syscall.SIGCONT)
			select {
			case r := <-done:
				return r
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// A reader that has read the link, and is then slow, finds what it named gone.
// There is a current version at every instant, and he must get that.
func TestASlowReaderOfANameGetsTheNewVersion(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	second := w.smallArchive("2")
	goOn := w.stopped("readlinkat", "exec", "demo", "sh", "-c", "echo $BERTH_REF")
	w.must(0, "install", second, "--switch")
	w.must(0, "remove", "demo@1")
	if r := goOn(); r.status != 0 || strings.TrimSpace(r.stdout) != "demo@2" {
		t.Errorf("exit status %d, ran on %q, want demo@2\n%s", r.status, r.stdout, r.stderr)
	}
}

// The version that a slow reader has found by the link is no longer current,
// and condemned, but still used by others.
func TestASlowReaderOfANameGetsNoCondemnedVersion(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	second := w.smallArchive("2")
	w.occupy("demo@1")
	goOn := w.stopped("readlinkat", "exec", "demo", "sh", "-c", "echo $BERTH_REF")
	w.must(0, "install", second, "--switch")
	w.must(0, "remove", "--defer", "demo@1")
	if r := goOn(); r.status != 0 || strings.TrimSpace(r.stdout) != "demo@2" {
		t.Errorf("exit status %d, ran on %q, want demo@2\n%s", r.status, r.stdout, r.stderr)
	}
}

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

// When the child has been waited for, its number is free for any process. No
// signal may go there any more, while the supervisor waits for others.
func TestTheSupervisorSignalsNoNumberThatIsFree(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	trace := w.path("trace")
	cmd := w.command("-f", "-qq", "-e", "trace=kill", "-o", trace,
		binary, "exec", "--supervise", "demo", "sh", "-c", "echo $PPID > "+w.path("pid")+"; setsid sleep 3 & exit 0")
	cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
	done := make(chan result)
	go func() { done <- w.finish(cmd) }()
	var supervisor int
	eventually(t, "the command runs", func() bool {
		text, _ := os.ReadFile(w.path("pid"))
		n, _ := fmt.Sscanln(string(text), &supervisor)
		return n == 1
	})
	time.Sleep(time.Second) // for the child to end
	if err := syscall.Kill(supervisor, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if r := <-done; r.status != 0 {
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
