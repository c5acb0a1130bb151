package test

import (
	"crypto/sha256"
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

// Killed between the rename of the version and that of the link: a second run
// finishes the work.
func TestASecondInstallActivatesTheFirstVersion(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	for _, name := range []string{"current", "1/activated"} {
		if err := os.Remove(filepath.Join(w.store, "runtimes/demo", name)); err != nil {
			t.Fatal(err)
		}
	}
	w.must(0, "install", w.smallArchive("1"))
	w.must(0, "exec", "demo", "true")
}

func TestASecondUpgradeFinishesTheSwitch(t *testing.T) {
	w := newWorld(t)
	var sums string
	for _, version := range []string{"1", "2"} {
		content, err := os.ReadFile(w.smallArchive(version))
		if err != nil {
			t.Fatal(err)
		}
		name := "demo-" + version + ".tar.zst"
		w.write("channel/"+name, string(content))
		sums += fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name)
	}
	w.write("channel/SHA256SUMS", sums)
	w.write("config.toml", "[gc]\nkeep = 5\n[runtime.demo]\nsource = \""+w.path("channel")+"\"\n")
	w.must(0, "install", w.path("channel/demo-1.tar.zst"))
	w.must(0, "upgrade", "demo")
	// As killed after the time of activation was set and before the link was.
	link := filepath.Join(w.store, "runtimes/demo/current")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("1", link); err != nil {
		t.Fatal(err)
	}
	w.must(0, "upgrade", "demo")
	if to, err := os.Readlink(link); err != nil || to != "2" {
		t.Errorf("current is %q (%v), want 2", to, err)
	}
	// What was rolled back from stays so.
	w.must(0, "rollback", "demo")
	if r := w.must(0, "upgrade", "demo"); !strings.Contains(r.stderr, "switched away from") {
		t.Errorf("upgrade after a rollback: %q", r.stderr)
	}
}

func TestAnInterruptedWaitCondemnsNothing(t *testing.T) {
	w := newWorld(t)
	w.install("1", "2")
	w.must(0, "switch", "demo@2")
	w.occupy("demo@1")
	if r := w.interrupt("remove", "--defer", "--wait", "30s", "demo@1"); r.status != 130 {
		t.Errorf("exit status %d, want 130", r.status)
	}
	if _, err := os.Stat(filepath.Join(w.store, "runtimes/demo/1/deferred")); err == nil {
		t.Error("the version was condemned")
	}
}

// What was installed before the interruption is told.
func TestAnInterruptedUpgradeTellsWhatItDid(t *testing.T) {
	w := newWorld(t)
	content, err := os.ReadFile(w.smallArchive("1"))
	if err != nil {
		t.Fatal(err)
	}
	sums, config := "", ""
	for _, name := range []string{"a", "b"} {
		w.write("channel/"+name+"-1.tar.zst", string(content))
		sums += fmt.Sprintf("%x  %s-1.tar.zst\n", sha256.Sum256(content), name)
		config += fmt.Sprintf("[runtime.%s]\nsource = %q\n", name, w.path("channel"))
	}
	w.write("channel/SHA256SUMS", sums)
	w.write("config.toml", config)
	w.install("1") // for there to be a store
	// Somebody else installs the second.
	f, err := os.Create(w.write("store/staging/b@1/lock", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := lock.Try(f, lock.Write); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("--config", w.path("config.toml"), "upgrade", "a", "b", "--json")
	said, err := os.Create(w.path("stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first is installed", func() bool {
		text, err := os.ReadFile(said.Name())
		return err == nil && strings.Contains(string(text), "installed a@1")
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 130 || !strings.HasPrefix(out.String(), `{"installed":[{"name":"a","version":"1",`) {
		t.Errorf("exit status %d\n%s", status, out.String())
	}
}

// What was removed before the interruption is told.
func TestAnInterruptedRemoveTellsWhatItDid(t *testing.T) {
	w := newWorld(t)
	w.install("1", "2", "3")
	w.occupy("demo@2")
	r := w.interrupt("remove", "--wait", "30s", "demo@1", "demo@2")
	if r.status != 130 || !strings.Contains(r.stderr, "removed demo@1, which freed ") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if w.listed("demo@1") || !w.listed("demo@2") {
		t.Errorf("left are:\n%s", w.must(0, "list").stdout)
	}
}

// The file with which doctor tries locks is a left-over once nobody locks it.
func TestTryingLocksIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	name := w.write("store/staging/lock-test.4711", "")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := lock.Try(f, lock.Read); err != nil {
		t.Fatal(err)
	}
	there := func() bool { _, err := os.Lstat(name); return err == nil }
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	if w.must(0, "gc"); !there() {
		t.Error("it was removed while it was locked")
	}
	f.Close()
	if w.must(0, "gc"); there() {
		t.Error("it is left when nobody locks it")
	}
}

// Killed between a rename, or a mark, and the sync of its directory: a second
// run that says that it is done makes it durable.
func TestASecondRunSyncs(t *testing.T) {
	w := newWorld(t)
	w.install("1", "2")
	w.must(0, "switch", "demo@2")
	w.occupy("demo@1")
	for _, again := range []struct {
		args   []string
		synced string
	}{
		{[]string{"install", w.smallArchive("1")}, "runtimes/demo>"},
		{[]string{"remove", "--defer", "demo@1"}, "runtimes/demo/1>"},
	} {
		w.must(0, again.args...)
		if calls := w.trace("fsync", again.args...); !strings.Contains(calls, again.synced) {
			t.Errorf("%q does not sync %q:\n%s", again.args, again.synced, calls)
		}
	}
}

// interrupt runs a command, and interrupts it when it waits for a user.
func (w *world) interrupt(args ...string) result {
	w.t.Helper()
	cmd := w.command(append([]string{"--config", w.path("config.toml")}, args...)...)
	said, err := os.Create(w.path("stderr"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer said.Close()
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stderr := func() string {
		text, _ := os.ReadFile(said.Name())
		return string(text)
	}
	eventually(w.t, "it waits", func() bool { return strings.Contains(stderr(), "waiting up to") })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		w.t.Fatal(err)
	}
	_ = cmd.Wait()
	return result{"", stderr(), cmd.ProcessState.ExitCode()}
}

// trace runs a command, which must succeed, and returns its system calls.
func (w *world) trace(calls string, args ...string) string {
	w.t.Helper()
	trace := w.path("trace")
	args = append([]string{"-f", "-y", "-qq", "-e", "trace=" + calls, "-o", trace, binary, "--config", w.path("config.toml")}, args...)
	cmd := w.command(args...)
	cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
	if r := w.finish(cmd); r.status != 0 {
		w.t.Fatalf("%q: exit status %d\n%s", args, r.status, r.stderr)
	}
	made, err := os.ReadFile(trace)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(made)
}

// Who replaces a version has its write lock for as long as it takes to see
// that nobody uses it.
func TestInstallWaitsForWhoReplacesTheVersion(t *testing.T) {
	w := newWorld(t)
	w.install("1", "2")
	w.must(0, "switch", "demo@2")
	mark := filepath.Join(w.store, "runtimes/demo/1/deferred")
	stage := filepath.Join(w.store, "staging/demo@1/lock")
	if err := os.Mkdir(filepath.Dir(stage), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, empty := range []string{mark, stage} {
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var locked []*os.File
	for _, name := range []string{stage, filepath.Join(w.files("demo@1"), ".ref")} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := lock.Try(f, lock.Write); err != nil {
			t.Fatal(err)
		}
		locked = append(locked, f)
	}
	time.AfterFunc(3*time.Second, func() {
		for _, f := range locked {
			f.Close()
		}
	})
	w.must(0, "install", w.smallArchive("1"))
	if _, err := os.Lstat(mark); !os.IsNotExist(err) {
		t.Errorf("the version is still to be removed: %v", err)
	}
}

// An installer that replaced a version was killed between the exchange and the
// sync. Unless the exchange is on the disk, deleting the old tree could leave
// half of it listed behind a power cut.
func TestAnExchangeIsSyncedBeforeTheOldTreeGoes(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	stage := filepath.Join(w.store, "staging", "demo@1")
	if err := os.MkdirAll(stage, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stage, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(w.store, "runtimes/demo/1"), filepath.Join(stage, "tree")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before, _, deleted := strings.Cut(w.trace("fsync,unlinkat", "gc"), "unlinkat(")
	if !deleted {
		t.Fatal("nothing was deleted")
	}
	for _, dir := range []string{"staging/demo@1>", "runtimes/demo>"} {
		if !strings.Contains(before, dir) {
			t.Errorf("%s was not synced before the first unlink:\n%s", dir, before)
		}
	}
}

// Who has .ref open and does not lock it is seen only when the version is in
// the trash. Waiting for him goes on there.
func TestRemoveWaitsForWhatIsInTheTrash(t *testing.T) {
	for _, want := range []struct {
		seconds, wait string
		left          int
	}{{"5", "30s", 0}, {"30", "1s", 1}} {
		w := newWorld(t)
		w.install("1", "2")
		w.must(0, "switch", "demo@2")
		ref, err := os.Open(filepath.Join(w.files("demo@1"), ".ref"))
		if err != nil {
			t.Fatal(err)
		}
		user := exec.Command("sleep", want.seconds)
		user.Stdin = ref
		if err := user.Start(); err != nil {
			t.Fatal(err)
		}
		ref.Close()
		w.must(0, "remove", "--wait", want.wait, "demo@1")
		if left, err := os.ReadDir(filepath.Join(w.store, "trash")); err != nil || len(left) != want.left {
			t.Errorf("a wait of %s for %s s: in the trash %v (%v), want %d", want.wait, want.seconds, left, err, want.left)
		}
		user.Process.Kill()
		user.Wait()
	}
}

// Without a link, or with one that names nothing, no version is protected by
// being current. None may go for that.
func TestWithoutACurrentVersionNothingIsCollected(t *testing.T) {
	for _, target := range []string{"", "gone"} {
		w := newWorld(t)
		w.install("1", "2")
		link := filepath.Join(w.store, "runtimes/demo/current")
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		if target != "" {
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
		}
		w.must(0, "gc")
		if !w.listed("demo@1") || !w.listed("demo@2") {
			t.Errorf("current -> %q: collected", target)
		}
		// The next version is current, as the first one was.
		w.install("3")
		w.must(0, "exec", "demo", "true")
	}
}
