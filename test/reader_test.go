package test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
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

// The version that a slow reader has found by the link is no longer current,
// and condemned, but still used by others.
func TestASlowReaderOfANameGetsNoCondemnedVersion(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	second := w.smallArchive("2")
	w.occupy("demo@1")
	cmd := w.command("-f", "-o", "/dev/null", "-e", "trace=readlinkat", "-e", "inject=readlinkat:delay_exit=4000000:when=1",
		binary, "exec", "demo", "sh", "-c", "echo $BERTH_REF")
	cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
	slow := make(chan result)
	go func() { slow <- w.finish(cmd) }()
	time.Sleep(time.Second)
	w.must(0, "install", second, "--switch")
	w.must(0, "remove", "--defer", "demo@1")
	if r := <-slow; r.status != 0 || strings.TrimSpace(r.stdout) != "demo@2" {
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
