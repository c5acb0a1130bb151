package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/lock"
)

func TestABrokenDeploymentDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "1.1", "1.2", "2.0")
	if err := os.Remove(w.files("demo@1.1") + "/.ref"); err != nil {
		t.Fatal(err)
	}
	r := w.must(74, "gc")
	if !strings.Contains(r.stderr, "demo@1.1: broken deployment") {
		t.Errorf("it is not named: %s", r.stderr)
	}
	if w.listed("demo@1.0") || w.listed("demo@1.2") || !w.listed("demo@1.1") || !w.listed("demo@2.0") {
		t.Errorf("left are:\n%s", w.must(0, "list").stdout)
	}
}

func TestATrashOfAHundred(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	one := filepath.Dir(w.files("demo@1.0"))
	for i := range 100 {
		to := filepath.Join(w.store, "trash", fmt.Sprintf("demo@1.0.%08d", i))
		if out, err := exec.Command("cp", "-a", one, to).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
		if i%2 == 0 { // half of them were killed half way
			os.Remove(filepath.Join(to, "files/.ref"))
		}
	}
	held := start(t, python("import fcntl\nf = open(sys.argv[1], 'rb')\nfcntl.lockf(f, fcntl.LOCK_SH)",
		filepath.Join(w.store, "trash/demo@1.0.00000001/files/.ref")))
	w.must(0, "gc")
	left, _ := os.ReadDir(filepath.Join(w.store, "trash"))
	if len(left) != 1 {
		t.Errorf("left are %v", left)
	}
	held.end()
	w.must(0, "gc")
	w.empty()
}

// gc --wait collects within 250 ms of the moment in which it is free. A machine
// that is busy with something else is asked again.
func TestWaitCollectsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	took := time.Hour
	for try := 0; try < 5 && took > 250*time.Millisecond; try++ {
		w.must(0, "install", w.smallArchive("1.0"))
		took = w.collectsIn("demo@1.0")
	}
	t.Logf("collected %s after it was free", took)
	if took > 250*time.Millisecond {
		t.Errorf("collected %s after it was free", took)
	}
	// In vain it ends when the time is over, and that is no failure.
	w.must(0, "install", w.smallArchive("1.0"))
	h := start(t, w.command("exec", "demo@1.0", "sh", "-c", waitScript))
	w.must(0, "gc", "--wait", "300ms")
	w.must(75, "remove", "demo@1.0", "--wait", "300ms")
	h.end()
	w.must(0, "remove", "demo@1.0", "--wait", "10s")
}

// collectsIn uses a version while a collection waits for it, and measures how
// long that takes afterwards.
func (w *world) collectsIn(ref string) (took time.Duration) {
	w.t.Helper()
	h := start(w.t, w.command("exec", ref, "sh", "-c", waitScript))
	done := make(chan result, 1)
	go func() { done <- w.run("gc", "--wait", "30s") }()
	time.Sleep(500 * time.Millisecond)
	select {
	case r := <-done:
		w.t.Fatalf("it did not wait: %+v", r)
	default:
	}
	h.end()
	freed := time.Now()
	eventually(w.t, "it is gone", func() bool {
		_, err := os.Lstat(filepath.Dir(w.files(ref)))
		took = time.Since(freed)
		return errors.Is(err, os.ErrNotExist)
	})
	if r := <-done; r.status != 0 || !strings.Contains(r.stdout, "removed\t"+ref) {
		w.t.Errorf("gc: %+v", r)
	}
	return took
}

// What is deferred is drained by the next upgrade too.
func TestTheNextUpgradeCollectsWhatWasDeferred(t *testing.T) {
	w := newWorld(t)
	if err := os.Mkdir(w.path("channel"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.write("config.toml", fmt.Sprintf("[gc]\nkeep = 0\ngrace = \"0s\"\n[runtime.demo]\nsource = %q\n", w.path("channel")))
	offer := func(version string) {
		if err := os.Rename(w.smallArchive(version), w.path("channel", "demo-"+version+".tar.zst")); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", "-c", "cd "+w.path("channel")+" && sha256sum demo-* >SHA256SUMS").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	offer("1.0")
	w.must(0, "install", "demo")
	h := start(t, w.command("exec", "demo@1.0", "sh", "-c", waitScript))
	offer("2.0")
	w.must(0, "upgrade", "demo")
	if !w.listed("demo@1.0") || !w.listed("demo@2.0") {
		t.Fatalf("left are:\n%s", w.must(0, "list").stdout)
	}
	w.must(0, "remove", "--defer", "demo@1.0")
	if out := w.must(0, "list").stdout; !strings.Contains(out, "deferred now, in use by sh (pid ") {
		t.Errorf("list does not say who keeps it:\n%s", out)
	}
	h.end()
	w.must(0, "upgrade")
	if w.listed("demo@1.0") {
		t.Error("the upgrade left what was deferred")
	}
}

// Who has the directory of a version open can reach all of it: it is not
// deleted, nor replaced.
func TestAnOpenDirectoryKeepsTheTree(t *testing.T) {
	for _, args := range [][]string{{"gc"}, {"remove", "demo@1.0"}} {
		w := newWorld(t)
		w.install("1.0", "2.0")
		open := python("d = os.open(sys.argv[1], os.O_DIRECTORY)\nos.write(1, b'ready\\n')\nsys.stdin.readline()\nprint(len(os.listdir(os.open('files/lib', 0, dir_fd=d))), flush=True)",
			filepath.Dir(w.files("demo@1.0")))
		h := start(t, open)
		w.must(75, "install", w.smallArchive("1.0"), "--force")
		w.must(0, args...)
		left, err := os.ReadDir(filepath.Join(w.store, "trash"))
		if err != nil || len(left) != 1 {
			t.Fatalf("in the trash: %v (%v)", left, err)
		}
		if _, err := os.Stat(filepath.Join(w.store, "trash", left[0].Name(), "files/.ref")); err != nil {
			t.Error(err)
		}
		h.end()
		w.must(0, "gc")
		w.empty()
	}
}

// A lock on another lock file of the version counts before anything is changed,
// also of whom /proc does not show.
func TestALockFurtherDownKeepsItListed(t *testing.T) {
	w := newWorld(t)
	w.write("trees/1.0/files/app/.ref", "")
	w.install("1.0", "2.0")
	h := start(t, python("import fcntl\nf = open(sys.argv[1], 'rb')\nfcntl.lockf(f, fcntl.LOCK_SH)", w.files("demo@1.0")+"/app/.ref"))
	if r := w.alone("gc", "--verbose"); r.status != 0 || !strings.Contains(r.stdout, "deferred\tdemo@1.0") {
		t.Errorf("gc: %+v", r)
	}
	if !w.listed("demo@1.0") {
		t.Error("it has been unpublished")
	}
	h.end()
	if r := w.alone("gc"); r.status != 0 || w.listed("demo@1.0") {
		t.Errorf("gc: %+v", r)
	}
}

// alone runs the command in a PID namespace of its own.
func (w *world) alone(args ...string) result {
	w.t.Helper()
	cmd := w.command(append([]string{"-pf", "--mount-proc", binary, "--config", w.path("config.toml")}, args...)...)
	cmd.Path, cmd.Args[0] = "/usr/bin/unshare", "unshare"
	return w.finish(cmd)
}

// A lock file that somebody has deleted may be locked still. It is made again
// only by whom the holder cannot escape.
func TestADeletedLockFileMayBeLocked(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	ref := w.files("demo@1.0") + "/.ref"
	h := start(t, python("import fcntl\nf = open(sys.argv[1], 'rb')\nfcntl.lockf(f, fcntl.LOCK_SH)", ref))
	if err := os.Remove(ref); err != nil {
		t.Fatal(err)
	}
	if r := w.alone("repair", "demo@1.0"); r.status != 75 || !strings.Contains(r.stderr, "processes outside of our PID namespace cannot be seen") {
		t.Errorf("repair: exit status %d\n%s", r.status, r.stderr)
	}
	w.must(0, "repair", "demo@1.0")
	w.must(0, "gc")
	if !w.listed("demo@1.0") {
		t.Error("it was collected under its holder")
	}
	h.end()
	w.must(0, "gc")
	if w.listed("demo@1.0") {
		t.Error("it is kept for nobody")
	}
}

// Who switches to what is installed installs it if it is removed meanwhile.
func TestARemovalBesideAnInstall(t *testing.T) {
	w := newWorld(t)
	w.install("2.0", "1.0")
	hold, err := os.OpenFile(filepath.Join(w.store, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if err := lock.Try(hold, lock.Write); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("--config", w.path("config.toml"), "install", w.smallArchive("2.0"), "--switch")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // it waits for the store's lock
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	hold.Close()
	w.must(0, "remove", "demo@2.0")
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	w.must(0, "exec", "demo", "true")
	if !w.listed("demo@2.0") {
		t.Error("it is not installed")
	}
}
