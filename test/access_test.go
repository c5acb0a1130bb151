package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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

// A lock file that an archive closes to its owner he can lock all the same.
func TestAnOwnerWhoIsShutOut(t *testing.T) {
	w := newWorldIn(t, openDir(t, nobody))
	root := w.smallTree("1.0")
	ref := w.write("trees/1.0/files/app/.ref", "")
	for name, mode := range map[string]os.FileMode{ref: 0, filepath.Join(root, "files"): 0o111} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	archive := w.path("demo-1.0.tar")
	tar(t, "-cf", archive, "-C", root, "files", "metadata")
	for _, args := range [][]string{{"install", archive}, {"install", archive, "--force"}, {"gc"}, {"remove", "demo@1.0"}} {
		cmd := w.command(append([]string{"--config", w.path("config.toml")}, args...)...)
		if r := w.finish(as(cmd, nobody)); r.status != 0 {
			t.Fatalf("berth %q: exit status %d\n%s", args, r.status, r.stderr)
		}
	}
	w.empty()
}
