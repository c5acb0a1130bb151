package test

import (
	"os/exec"
	"strings"
	"testing"
)

// These are the programs that berth has to be safe beside, not stand-ins.

func bwrapLockFile(w *world, ref string) *exec.Cmd {
	return exec.Command("bwrap", "--ro-bind", w.files(ref), "/usr",
		"--symlink", "usr/bin", "/bin", "--dev", "/dev", "--lock-file", "/usr/.ref",
		"/bin/sh", "-c", waitScript)
}

func TestBubblewrapsLockFileDefersTheCollection(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	inside := start(t, bwrapLockFile(w, "demo@1.0"))
	r := w.must(75, "remove", "demo@1.0")
	if !strings.Contains(r.stderr, "in use by bwrap (pid ") {
		t.Errorf("the holder is not named: %s", r.stderr)
	}
	w.must(0, "gc")
	if !w.listed("demo@1.0") {
		t.Fatal("gc took a held version")
	}
	inside.end()
	w.must(0, "gc")
	if w.listed("demo@1.0") {
		t.Error("gc left a version that nobody holds")
	}
	if !w.listed("demo@2.0") {
		t.Error("gc took the current version")
	}
}

// While somebody holds the write lock as a collector does, bwrap --lock-file
// must not start.
func TestACollectorsLockKeepsBubblewrapFromStarting(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	collector := start(t, exec.Command("/usr/bin/python3", "-c", `
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
F_OFD_SETLK = 37
fcntl.fcntl(fd, F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
print('ready', flush=True)
sys.stdin.read()`, w.files("demo@1.0")+"/.ref"))
	out, err := bwrapLockFile(w, "demo@1.0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "lock") {
		t.Errorf("bwrap started beside a write lock: %v\n%s", err, out)
	}
	if r := w.run("exec", "demo", "true"); r.status != 75 {
		t.Errorf("our own reader: exit status %d: %s", r.status, r.stderr)
	}
	collector.end()
	inside := start(t, bwrapLockFile(w, "demo@1.0"))
	inside.end()
}

func TestFlatpaksProbeSeesOurReader(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	// What dir_is_locked of Flatpak does.
	probe := func() string {
		out, err := exec.Command("/usr/bin/python3", "-c", `
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
lk = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
print('free' if struct.unpack('hhqqi4x', lk)[0] == fcntl.F_UNLCK else 'locked')`,
			w.files("demo@1.0")+"/.ref").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	for _, how := range []string{"exec", "run"} {
		if got := probe(); got != "free" {
			t.Fatalf("before %s: %s", how, got)
		}
		h := start(t, w.command(how, "demo@1.0", "sh", "-c", waitScript))
		if got := probe(); got != "locked" {
			t.Errorf("beside %s: %s", how, got)
		}
		h.end()
	}
}

// Python's lockf is the process-associated lock that bubblewrap takes.
func TestPythonsLockHoldsAndIsRefused(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	h := start(t, exec.Command("/usr/bin/python3", "-c", `
import fcntl, sys
f = open(sys.argv[1])
fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
print('ready', flush=True)
sys.stdin.read()`, w.files("demo@1.0")+"/.ref"))
	w.must(75, "remove", "demo@1.0")
	h.end()

	reader := start(t, w.command("exec", "demo@1.0", "sh", "-c", waitScript))
	out, err := exec.Command("/usr/bin/python3", "-c", `
import fcntl, sys
f = open(sys.argv[1], 'r+')
try:
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print('busy')`, w.files("demo@1.0")+"/.ref").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "busy" {
		t.Errorf("Python's write lock beside our reader: %s (%v)", out, err)
	}
	reader.end()
	w.must(0, "remove", "demo@1.0")
}

// flock(2) excludes none of the programs that hold runtimes. Its holder has
// the file open, which is why the tree waits in the trash, but no more.
func TestFlockIsNoLock(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	start(t, exec.Command("flock", "--shared", w.files("demo@1.0")+"/.ref", "sh", "-c", waitScript))
	out := w.must(0, "list").stdout
	if strings.Contains(out, "in use") {
		t.Errorf("a version under flock is listed as in use:\n%s", out)
	}
	w.must(0, "exec", "demo@1.0", "true")
	w.run("remove", "demo@1.0")
	if w.listed("demo@1.0") {
		t.Error("flock kept a version listed")
	}
}
