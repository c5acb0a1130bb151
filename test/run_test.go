package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestExecHandsTheLockOn(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	r := w.must(0, "exec", "demo@1.0", "sh", "-c", `echo $BERTH_REF; echo $BERTH_FILES; cat $BERTH_FILES/version; cat /proc/self/fdinfo/$BERTH_LOCK_FD`)
	lines := strings.Split(r.stdout, "\n")
	if lines[0] != "demo@1.0" || lines[1] != w.files("demo@1.0") || lines[2] != "1.0" {
		t.Errorf("the command saw:\n%s", r.stdout)
	}
	if !strings.Contains(r.stdout, "OFDLCK") || !strings.Contains(r.stdout, "READ") {
		t.Errorf("the descriptor has no read lock:\n%s", r.stdout)
	}
}

// No process stays behind: the pid that was started is the command's.
func TestExecReplacesItself(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	h := start(t, w.command("exec", "demo", "sh", "-c", waitScript))
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", h.cmd.Process.Pid))
	if err != nil || strings.TrimSpace(string(comm)) != "sh" {
		t.Errorf("pid %d is %q (%v)", h.cmd.Process.Pid, comm, err)
	}
}

func TestExitStatusIsTheCommands(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	notExecutable := w.write("plain", "no program\n")
	for _, how := range [][]string{{"exec"}, {"exec", "--supervise"}, {"run"}, {"run", "--supervise"}} {
		for _, c := range []struct {
			status int
			argv   []string
		}{
			{0, []string{"true"}},
			{1, []string{"false"}},
			{7, []string{"sh", "-c", "exit 7"}},
			{127, []string{"no-such-command"}},
			{127, []string{"/no/such/command"}},
			{126, []string{notExecutable}},
		} {
			args := append(append(append([]string{}, how...), "demo"), c.argv...)
			if r := w.run(args...); r.status != c.status {
				t.Errorf("berth %q: exit status %d, want %d\n%s", args, r.status, c.status, r.stderr)
			}
		}
	}
	if r := w.run("exec", "--supervise", "demo", "sh", "-c", "kill -TERM $$"); r.status != 143 {
		t.Errorf("a supervised command killed by SIGTERM: exit status %d", r.status)
	}
	if r := w.run("exec", "demo@9", "true"); r.status != 66 {
		t.Errorf("no such version: exit status %d", r.status)
	}
}

// What follows the ref is the command's, flags too.
func TestFlagsAfterTheRefAreTheCommands(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	r := w.must(0, "exec", "demo", "echo", "--json", "--store", "x", "--", "y")
	if r.stdout != "--json --store x -- y\n" {
		t.Errorf("the command got %q", r.stdout)
	}
	if r := w.must(0, "run", "demo", "--", "sh", "-c", "echo $0 $1", "--supervise", "--help"); r.stdout != "--supervise --help\n" {
		t.Errorf("the command got %q", r.stdout)
	}
}

func TestRunSeesTheRuntimeAndTheHost(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	script := `cat /usr/version; pwd; cat file; echo $BERTH_FILES; test -e /usr/.ref && echo ref
ls /proc/$$/exe; touch /usr/x 2>&1; touch made && echo written; id -u`
	w.write("file", "a file of home\n")
	r := w.must(0, "run", "demo", "sh", "-c", script)
	for _, want := range []string{"1.0\n", w.dir + "\n", "a file of home\n", "/usr\n", "ref\n", "Read-only file system", "written\n", fmt.Sprintf("%d\n", os.Getuid())} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is missing in:\n%s%s", want, r.stdout, r.stderr)
		}
	}
	if _, err := os.Stat(w.path("made")); err != nil {
		t.Errorf("home is not the host's: %v", err)
	}
}

// A script is not there for the kernel if its interpreter is not.
func TestRunLooksForTheInterpreter(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	for _, c := range []struct {
		status       int
		script, says string
	}{
		{0, "#! /bin/sh -e\nexit 0\n", ""},
		{127, "#!/no/python -u\n", `its interpreter "/no/python": file does not exist`},
		{126, "#!/usr/version\n", `its interpreter "/usr/version": permission denied`},
		{126, "#!" + w.path("loop") + "\n", "too many levels of symbolic links"},
	} {
		script := w.write("loop", c.script)
		if err := os.Chmod(script, 0o755); err != nil {
			t.Fatal(err)
		}
		if r := w.must(c.status, "run", "demo", script); !strings.Contains(r.stderr, c.says) {
			t.Errorf("%q: %s", c.script, r.stderr)
		}
	}
}

// /etc has the host's files whatever the runtime has for it.
func TestRunFillsEtc(t *testing.T) {
	w := newWorld(t)
	small := filepath.Join(w.smallTree("1.0"), "files")
	for version, prepare := range map[string]string{
		"1": "",
		"2": "mkdir etc; echo own >etc/own",
		"3": "mkdir -p usr/etc; echo own >usr/etc/own; ln -s usr/etc etc",
		"4": "mkdir -p usr/etc; echo own >usr/etc/own; ln -s /usr/etc etc",
		"5": "ln -s /home etc",
	} {
		root := w.path("root", version)
		sh := exec.Command("sh", "-euc", `mkdir -p "$1"; cp -a "$0" "$1/usr"; cd "$1"; ln -s usr/bin bin; `+prepare, small, root)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		w.must(0, "install", root, "--as", "root@"+version)
		want := "hosts\nown\n"
		switch version {
		case "1":
			want = "hosts\n"
		case "5":
			want = ""
		}
		r := w.must(0, "run", "root@"+version, "sh", "-c", "test ! -s /etc/hosts || echo hosts; test ! -e /etc/own || cat /etc/own")
		if r.stdout != want {
			t.Errorf("with %q /etc has %q", prepare, r.stdout)
		}
	}
}

// A program that forks and exits leaves a child that has the descriptor.
func TestTheForkedChildStillProtects(t *testing.T) {
	for _, how := range []string{"run", "exec"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			w.install("1.0", "2.0")
			pidFile := w.path("pid")
			w.must(0, how, "demo@1.0", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! >"+pidFile)
			pid := readPID(t, pidFile)
			t.Cleanup(func() { kill(pid) })
			w.must(75, "remove", "demo@1.0")
			w.must(0, "gc")
			if !w.listed("demo@1.0") {
				t.Fatal("a forked child does not protect")
			}
			kill(pid)
			eventually(t, "the version is collected", func() bool {
				w.must(0, "gc")
				return !w.listed("demo@1.0")
			})
		})
	}
}

// daemon closes every descriptor, daemonises, and does not even run from the
// runtime.
const daemon = `
import os, sys, time
pid_file = sys.argv[1]
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.closerange(0, 4096)
os.chdir('/')
fd = os.open(pid_file, os.O_WRONLY | os.O_CREAT, 0o644)
os.write(fd, str(os.getpid()).encode() + b'\n')
os.close(fd)
time.sleep(1000)
`

func TestSuperviseCoversADaemon(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	pidFile := w.path("pid")
	cmd := w.command("exec", "--supervise", "demo@1.0", "/usr/bin/python3", "-c", daemon, pidFile)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := readPID(t, pidFile)
	t.Cleanup(func() { kill(pid); cmd.Wait() })
	r := w.must(75, "remove", "demo@1.0")
	if !strings.Contains(r.stderr, "in use by berth (pid "+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("the supervisor is not named: %s", r.stderr)
	}
	// Deferred, it goes when the supervisor's last descendant has ended.
	w.must(0, "remove", "--defer", "demo@1.0")
	if !w.listed("demo@1.0") {
		t.Fatal("a supervised version was removed")
	}
	if r := w.run("exec", "demo@1.0", "true"); r.status != 66 {
		t.Errorf("a deferred version took a new reader: exit status %d", r.status)
	}
	kill(pid)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the supervisor: %v", err)
	}
	if w.listed("demo@1.0") {
		t.Error("the supervisor left the deferred version")
	}
}

func readPID(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, "the pid is written", func() bool {
		text, err := os.ReadFile(file)
		if err != nil || !strings.HasSuffix(string(text), "\n") {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}

func kill(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill()
	}
}

// Each reader walks the whole runtime while it holds it. It either finds
// everything or does not start.
func TestRemovedWhileReadersStart(t *testing.T) {
	w := newWorld(t)
	w.install("2.0")
	archive := w.smallArchive("1.0")
	check := w.write("check.sh", `
for i in 00 01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19; do
	cat "$1/lib/part$i" >/dev/null || { echo "missing part$i"; exit 99; }
done
test -e "$1/.ref" && test -x "$1/bin/busybox" && cat "$1/version" || exit 99
`)
	for _, reader := range []struct {
		name string
		argv func() *exec.Cmd
	}{
		{"exec", func() *exec.Cmd {
			return w.command("exec", "demo@1.0", "sh", "-c", `. `+check+``, "sh")
		}},
		{"run", func() *exec.Cmd {
			return w.command("run", "demo@1.0", "sh", check, "/usr")
		}},
		{"bwrap", func() *exec.Cmd {
			return exec.Command("bwrap", "--ro-bind", w.files("demo@1.0"), "/usr",
				"--symlink", "usr/bin", "/bin", "--dev", "/dev", "--ro-bind", w.dir, w.dir,
				"--lock-file", "/usr/.ref", "/bin/sh", check, "/usr")
		}},
	} {
		t.Run(reader.name, func(t *testing.T) {
			var whole, refused int
			var mu sync.Mutex
			for range 3 {
				w.must(0, "install", archive)
				var readers sync.WaitGroup
				stop := make(chan struct{})
				for range 20 {
					readers.Go(func() {
						// A few times each, or there would never be a moment
						// without a reader.
						for range 1 + rand.N(10) {
							time.Sleep(rand.N(100 * time.Millisecond))
							select {
							case <-stop:
								return
							default:
							}
							cmd := reader.argv()
							if reader.name == "exec" {
								cmd.Args = append(cmd.Args, filepath.Dir(w.files("demo@1.0"))+"/files")
							}
							out, err := cmd.CombinedOutput()
							mu.Lock()
							if err == nil {
								whole++
							} else if refused++; cmd.ProcessState.ExitCode() == 99 || strings.Contains(string(out), "missing") {
								t.Errorf("a reader ran on half a runtime:\n%s", out)
							}
							mu.Unlock()
							if err != nil {
								return
							}
						}
					})
				}
				eventually(t, "a reader has run", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return whole > 0 || t.Failed()
				})
				eventually(t, "the version is removed", func() bool { return w.run("remove", "demo@1.0").status != 75 })
				close(stop)
				readers.Wait()
				if out, err := reader.argv().CombinedOutput(); err == nil {
					t.Errorf("a reader ran on what is removed:\n%s", out)
				}
				eventually(t, "the trash is empty", func() bool {
					w.must(0, "gc")
					left, err := os.ReadDir(filepath.Join(w.store, "trash"))
					return err == nil && len(left) == 0
				})
			}
			t.Logf("%d ran whole, %d did not start", whole, refused)
		})
	}
}
