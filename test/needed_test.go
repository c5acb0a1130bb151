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
)

// fill writes until the file system is full, to the last byte.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for block := make([]byte, size); ; {
			if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	f.Sync()
}

// exhaust makes files until there is no inode left.
func exhaust(t *testing.T, dir string) {
	t.Helper()
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint("inode", i)), nil, 0o644)
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestGCFreesAFullFileSystem(t *testing.T) {
	for name, c := range map[string]struct {
		mkfs []string
		use  func(*testing.T, string)
	}{
		"no free bytes":  {[]string{"mkfs.ext4", "-q", "-F", "-m", "0"}, fill},
		"no free inodes": {[]string{"mkfs.ext4", "-q", "-F", "-m", "0", "-N", "1024"}, exhaust},
	} {
		t.Run(name, func(t *testing.T) {
			at := loop(t, 64, c.mkfs...)
			w := newWorldIn(t, at)
			w.install("1.0", "1.1", "1.2", "2.0")
			// One is left in the trash by somebody who was killed.
			if err := os.Rename(filepath.Dir(w.files("demo@1.2")), filepath.Join(w.store, "trash", "demo@1.2.abcdefgh")); err != nil {
				t.Fatal(err)
			}
			c.use(t, at)
			if err := os.WriteFile(filepath.Join(at, "more"), []byte("x"), 0o644); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the file system is not full: %v", err)
			}
			w.must(0, "gc")
			if w.listed("demo@1.0") || w.listed("demo@1.1") || !w.listed("demo@2.0") {
				t.Errorf("left are:\n%s", w.must(0, "list").stdout)
			}
			w.empty()
			if err := os.WriteFile(filepath.Join(at, "more"), []byte("x"), 0o644); err != nil {
				t.Errorf("it is full still: %v", err)
			}
		})
	}
}

// An install that does not fit leaves nothing, and says what is wrong.
func TestInstallOnAFullFileSystem(t *testing.T) {
	at := loop(t, 64, "mkfs.ext4", "-q", "-F", "-m", "0")
	w := newWorldIn(t, at)
	w.install("1.0")
	archive := w.smallArchive("2.0")
	fill(t, at)
	r := w.must(74, "install", archive)
	if !strings.Contains(r.stderr, "no space left on device") {
		t.Errorf("it says: %s", r.stderr)
	}
	w.empty()
	w.must(0, "verify", "demo")
	if w.listed("demo@2.0") {
		t.Error("it is listed")
	}
}

// The room that an install needs can be in the trash, which is emptied while it
// unpacks.
func TestInstallInTheRoomOfTheTrash(t *testing.T) {
	at := loop(t, 64, "mkfs.ext4", "-q", "-F", "-m", "0")
	w := newWorldIn(t, at)
	w.write("config.toml", "[store]\ndedup = false\n") // 2.0 needs as much as 1.0 has
	w.install("1.0", "1.1")
	archive := w.smallArchive("2.0")
	left := filepath.Join(w.store, "trash", "demo@1.0.abcdefgh")
	if err := os.Rename(filepath.Dir(w.files("demo@1.0")), left); err != nil {
		t.Fatal(err)
	}
	fill(t, at)
	// A stage is a little more than what was in the trash.
	full, err := os.Stat(filepath.Join(at, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(at, "fill"), full.Size()-64<<10); err != nil {
		t.Fatal(err)
	}
	w.must(0, "install", archive, "--switch")
	w.empty()
	w.must(0, "verify", "demo@2.0")
}

// It is tried once more only if there is more room by then, and the archive can
// be read once more.
func TestOnceMoreOnAFullFileSystem(t *testing.T) {
	for _, c := range []struct {
		trash, pipe, again bool
	}{{true, false, true}, {false, false, false}, {true, true, false}} {
		w := newWorld(t)
		w.install("1.0", "1.1")
		if c.trash {
			if err := os.Rename(filepath.Dir(w.files("demo@1.0")), filepath.Join(w.store, "trash", "demo@1.0.abcdefgh")); err != nil {
				t.Fatal(err)
			}
		}
		archive := w.smallArchive("2.0")
		from := archive
		if c.pipe {
			from = "/dev/stdin"
		}
		cmd := w.command("-f", "-qq", "-o", w.path("trace"), "-e", "trace=syncfs", "-e", "inject=syncfs:error=ENOSPC",
			binary, "install", from, "--as", "demo@2.0")
		cmd.Path, cmd.Args[0] = "/usr/bin/strace", "strace"
		if c.pipe {
			cat := exec.Command("cat", archive)
			var err error
			if cmd.Stdin, err = cat.StdoutPipe(); err != nil {
				t.Fatal(err)
			}
			if err := cat.Start(); err != nil {
				t.Fatal(err)
			}
			defer cat.Wait()
		}
		r := w.finish(cmd)
		if r.status != 74 || strings.Contains(r.stderr, "once more") != c.again {
			t.Errorf("%+v: exit status %d\n%s", c, r.status, r.stderr)
		}
		w.empty()
	}
}

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

// On a read-only store everything that only reads works, and writes nothing.
func TestAReadOnlyStore(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	mount(t, w.store, "--bind", w.store)
	if out, err := exec.Command("mount", "-o", "remount,bind,ro", w.store).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	for _, args := range [][]string{
		{"list"}, {"ps"}, {"verify", "demo"}, {"exec", "demo", "true"}, {"run", "demo@1.0", "true"},
		{"gc", "--dry-run"}, {"run", "--supervise", "demo", "true"},
	} {
		w.must(0, args...)
	}
	h := start(t, w.command("exec", "demo@1.0", "sh", "-c", waitScript))
	if out := w.must(0, "list").stdout; !strings.Contains(out, "in use (1)") {
		t.Errorf("a holder is not seen:\n%s", out)
	}
	h.end()
	for _, args := range [][]string{{"remove", "demo@1.0"}, {"switch", "demo@1.0"}, {"pin", "demo@1.0"}, {"install", w.smallArchive("3.0")}} {
		if r := w.run(args...); r.status != 73 {
			t.Errorf("%q: exit status %d: %s", args, r.status, r.stderr)
		}
	}
	if !w.listed("demo@1.0") {
		t.Error("it is gone")
	}
}

// A person's own store: what other accounts do cannot be seen, and does not
// matter where they cannot enter it.
func TestAnUnprivilegedStore(t *testing.T) {
	w := newWorldIn(t, openDir(t, nobody))
	archives := []string{w.smallArchive("1.0"), w.smallArchive("1.1"), w.smallArchive("2.0")}
	run := func(args ...string) result {
		return w.finish(as(w.command(append([]string{"--config", w.path("config.toml")}, args...)...), nobody))
	}
	ok := func(args ...string) result {
		t.Helper()
		r := run(args...)
		if r.status != 0 {
			t.Fatalf("berth %q as %d: exit status %d\n%s", args, nobody, r.status, r.stderr)
		}
		return r
	}
	for _, a := range archives {
		ok("install", a, "--switch")
	}
	if out := ok("ps", "--verbose").stderr; !strings.Contains(out, "of other accounts") {
		t.Errorf("what cannot be seen is not named: %q", out)
	}
	// Held by the person himself.
	h := start(t, as(w.command("exec", "demo@1.0", "sh", "-c", waitScript), nobody))
	ok("gc")
	if !w.listed("demo@1.0") || w.listed("demo@1.1") {
		t.Fatalf("left are:\n%s", w.must(0, "list").stdout)
	}
	h.end()
	// With incomplete evidence forbidden, a store that others can enter keeps
	// everything, and one that they cannot does not.
	w.write("config.toml", "[gc]\nkeep = 0\ngrace = \"0s\"\nrequire-complete-evidence = true\n")
	if r := ok("gc", "--json"); !strings.Contains(r.stdout, `"rule":"evidence"`) || !strings.Contains(r.stdout, "of other accounts") {
		t.Errorf("incomplete evidence does not keep: %s", r.stdout)
	}
	if !w.listed("demo@1.0") {
		t.Fatal("it was collected in doubt")
	}
	if err := os.Chmod(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ok("gc")
	if w.listed("demo@1.0") {
		t.Error("it is kept although nobody else can enter the store")
	}
	// Another account's lock holds in any case.
	w.write("config.toml", "[gc]\nkeep = 0\ngrace = \"0s\"\n")
	ok("install", archives[0])
	other := start(t, python("import fcntl\nf = open(sys.argv[1], 'rb')\nfcntl.lockf(f, fcntl.LOCK_SH)", w.files("demo@1.0")+"/.ref"))
	r := run("remove", "demo@1.0")
	if r.status != 75 {
		t.Errorf("beside a lock of root: exit status %d: %s", r.status, r.stderr)
	}
	other.end()
	ok("remove", "demo@1.0")
}

// A system store, read by anybody.
func TestASystemStoreIsReadByAnybody(t *testing.T) {
	w := newWorldIn(t, openDir(t, 0))
	w.install("1.0", "2.0")
	run := func(args ...string) result { return w.finish(as(w.command(args...), nobody)) }
	if r := run("list"); r.status != 0 || !strings.Contains(r.stdout, "2.0") {
		t.Errorf("list: %d, %s%s", r.status, r.stdout, r.stderr)
	}
	for _, how := range []string{"run", "exec"} {
		h := start(t, as(w.command(how, "demo@1.0", "sh", "-c", waitScript), nobody))
		r := w.must(75, "remove", "demo@1.0")
		if !strings.Contains(r.stderr, "\tnobody\t") && !strings.Contains(r.stderr, "\t65534\t") {
			t.Errorf("%s: the account is not named: %s", how, r.stderr)
		}
		if r := run("list"); !strings.Contains(r.stdout, "in use") {
			t.Errorf("list: %s", r.stdout)
		}
		h.end()
	}
	for _, args := range [][]string{{"remove", "demo@1.0"}, {"switch", "demo@1.0"}, {"gc", "--config", w.path("config.toml")}, {"pin", "demo@1.0"}} {
		if r := run(args...); r.status != 77 {
			t.Errorf("%q: exit status %d: %s", args, r.status, r.stderr)
		}
	}
	if r := run("verify", "demo"); r.status != 0 {
		t.Errorf("verify: %s", r.stderr)
	}
}

// What another account may not read is not missing, and no bad data.
func TestVerifyOfWhatMayNotBeRead(t *testing.T) {
	w := newWorldIn(t, openDir(t, 0))
	tree := w.smallTree("1.0")
	secret := filepath.Join(tree, "files", "secret")
	if err := os.Mkdir(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("trees/1.0/files/secret/inside", "secret")
	w.must(0, "install", tree, "--as", "demo@1.0")
	r := w.finish(as(w.command("verify", "demo"), nobody))
	if r.status != 77 || strings.Contains(r.stdout, "missing") || !strings.Contains(r.stdout, `"secret"`) {
		t.Errorf("exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	w.must(0, "verify", "demo")
}

// gc --wait collects within 250 ms of the moment in which it is free.
func TestWaitCollectsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	h := start(t, w.command("exec", "demo@1.0", "sh", "-c", waitScript))
	done := make(chan result, 1)
	go func() { done <- w.run("gc", "--wait", "30s") }()
	time.Sleep(500 * time.Millisecond)
	select {
	case r := <-done:
		t.Fatalf("it did not wait: %+v", r)
	default:
	}
	h.end()
	freed := time.Now()
	var took time.Duration
	eventually(t, "it is gone", func() bool {
		_, err := os.Lstat(filepath.Dir(w.files("demo@1.0")))
		took = time.Since(freed)
		return errors.Is(err, os.ErrNotExist)
	})
	if r := <-done; r.status != 0 || !strings.Contains(r.stdout, "removed\tdemo@1.0") {
		t.Errorf("gc: %+v", r)
	}
	t.Logf("collected %s after it was free", took)
	if took > 250*time.Millisecond {
		t.Errorf("collected %s after it was free", took)
	}
	// In vain it ends when the time is over, and that is no failure.
	w.must(0, "install", w.smallArchive("1.0"))
	h = start(t, w.command("exec", "demo@1.0", "sh", "-c", waitScript))
	w.must(0, "gc", "--wait", "300ms")
	w.must(75, "remove", "demo@1.0", "--wait", "300ms")
	h.end()
	w.must(0, "remove", "demo@1.0", "--wait", "10s")
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
