package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
