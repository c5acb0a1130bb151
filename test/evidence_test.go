package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// user is a way to use a runtime without a lock on it.
type user struct {
	how string // as ps has to name it
	// command uses the runtime in files, prints "ready" and ends with its
	// standard input.
	command func(w *world, files string) *exec.Cmd
	cleanup func(w *world)
}

func python(script string, args ...string) *exec.Cmd {
	const tail = "\nprint('ready', flush=True)\nsys.stdin.read()\n"
	return exec.Command("/usr/bin/python3", append([]string{"-c", "import mmap, os, sys\n" + script + tail}, args...)...)
}

var users = map[string]user{
	"a Python that maps a library and closes it": {"map", func(_ *world, files string) *exec.Cmd {
		return python("f = open(sys.argv[1], 'rb')\nm = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nf.close()", files+"/lib/part00")
	}, nil},
	"a daemon that runs a program of it": {"exe", func(w *world, files string) *exec.Cmd {
		script := fmt.Sprintf(`%s/bin/busybox setsid %s/bin/busybox sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >%s; echo ready; read line || :`, files, files, w.path("daemon"))
		return exec.Command("/bin/sh", "-c", script)
	}, func(w *world) {
		kill(readPID(w.t, w.path("daemon")))
	}},
	"a shell that sits in it": {"cwd", func(_ *world, files string) *exec.Cmd {
		return exec.Command("/bin/sh", "-c", "cd "+files+"/lib && "+waitScript)
	}, nil},
	"a chroot": {"root", func(_ *world, files string) *exec.Cmd {
		return exec.Command("chroot", files, "/bin/sh", "-c", waitScript)
	}, nil},
	"bubblewrap without a lock": {"mount", func(_ *world, files string) *exec.Cmd {
		return exec.Command("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/tmp",
			"--ro-bind", files, "/mnt", "/bin/sh", "-c", waitScript)
	}, nil},
	"another mount and user namespace": {"mount", func(_ *world, files string) *exec.Cmd {
		return exec.Command("unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c",
			"mount --bind "+files+"/lib /mnt && "+waitScript)
	}, nil},
	"an open file": {"fd", func(_ *world, files string) *exec.Cmd {
		return python("f = open(sys.argv[1], 'rb')", files+"/lib/part00")
	}, nil},
	"a lock of fcntl": {"lock", func(_ *world, files string) *exec.Cmd {
		return python("import fcntl\nf = open(sys.argv[1], 'rb')\nfcntl.lockf(f, fcntl.LOCK_SH)", files+"/.ref")
	}, nil},
	"berth exec": {"lock", func(w *world, _ string) *exec.Cmd {
		return w.command("exec", "demo@1.0", "sh", "-c", waitScript)
	}, nil},
}

// Every kind of evidence, by a real process: deferred, named, and collected
// when it has ended. The version 1.5 shares every file with 1.0 as hard links,
// and must not be taken for in use.
func everyUse(t *testing.T, dir func(t *testing.T) string) {
	for name, u := range users {
		t.Run(name, func(t *testing.T) {
			w := newWorldIn(t, dir(t))
			w.install("1.0", "1.5", "2.0")
			w.shareFiles("1.0", "1.5")
			h := start(t, u.command(w, w.files("demo@1.0")))
			if u.cleanup != nil {
				t.Cleanup(func() { u.cleanup(w) })
			}
			r := w.must(0, "gc", "--json")
			if !w.listed("demo@1.0") {
				t.Fatalf("it was collected:\n%s", r.stdout)
			}
			if w.listed("demo@1.5") {
				t.Errorf("a version that shares its files was taken for in use:\n%s", r.stdout)
			}
			if ways := w.ways("demo@1.0"); !strings.Contains(ways, u.how) {
				t.Errorf("ps names the ways %q, want %s", ways, u.how)
			}
			r = w.must(75, "remove", "demo@1.0")
			if !strings.Contains(r.stderr, "in use by ") || !strings.Contains(r.stderr, "\t"+u.how+"\t") {
				t.Errorf("remove does not say who: %s", r.stderr)
			}
			h.end()
			if u.cleanup != nil {
				u.cleanup(w)
			}
			eventually(t, "it is collected", func() bool {
				w.must(0, "gc")
				return !w.listed("demo@1.0")
			})
			w.empty()
		})
	}
}

// shareFiles replaces the files of a version by hard links to another's.
func (w *world) shareFiles(from, to string) {
	w.t.Helper()
	for _, dir := range []string{"bin", "lib"} {
		a, b := filepath.Join(w.files("demo@"+from), dir), filepath.Join(w.files("demo@"+to), dir)
		if err := os.RemoveAll(b); err != nil {
			w.t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-al", a, b).CombinedOutput(); err != nil {
			w.t.Fatalf("cp: %v\n%s", err, out)
		}
	}
}

// ways lists how processes use a version, by ps.
func (w *world) ways(ref string) string {
	w.t.Helper()
	var uses []struct{ How, Account, Command string }
	if err := json.Unmarshal([]byte(w.must(0, "ps", ref, "--json").stdout), &uses); err != nil {
		w.t.Fatal(err)
	}
	var ways []string
	for _, u := range uses {
		if u.Account == "" || u.Command == "" {
			w.t.Errorf("a use without account or command: %+v", u)
		}
		ways = append(ways, u.How)
	}
	return strings.Join(ways, " ")
}

// empty fails if something is left in the staging directory or the trash.
func (w *world) empty() {
	w.t.Helper()
	for _, dir := range []string{"staging", "trash"} {
		left, err := os.ReadDir(filepath.Join(w.store, dir))
		if err != nil || len(left) > 0 {
			w.t.Errorf("%s: %v, %v", dir, left, err)
		}
	}
}

func TestEveryUseDefers(t *testing.T) {
	everyUse(t, func(t *testing.T) string { return openDir(t, 0) })
}

// bubblewrap mounts before it locks: what is found only at the second look
// stays whole in the trash, is shown by ps and list, and is drained later.
func TestFoundAtTheSecondLookItWaitsInTheTrash(t *testing.T) {
	w := newWorld(t)
	w.install("1.0", "2.0")
	// Somebody who has the lock file open and no lock on it counts only then.
	h := start(t, python("f = open(sys.argv[1], 'rb')", w.files("demo@1.0")+"/.ref"))
	r := w.run("remove", "demo@1.0")
	if r.status != 0 && r.status != 75 {
		t.Errorf("exit status %d: %s", r.status, r.stderr)
	}
	if w.listed("demo@1.0") {
		t.Fatal("it is listed still")
	}
	if out := w.must(0, "list").stdout; !strings.Contains(out, "in the trash, in use by python3") {
		t.Errorf("list says nothing of it:\n%s", out)
	}
	if out := w.must(0, "ps").stdout; !strings.Contains(out, "demo@1.0 (trash)\t") {
		t.Errorf("ps says nothing of it:\n%s", out)
	}
	trees, _ := filepath.Glob(w.store + "/trash/demo@1.0.*/files/lib/part*")
	if len(trees) != 20 {
		t.Errorf("it is not whole: %v", trees)
	}
	if r := w.must(0, "gc", "--json"); !strings.Contains(r.stdout, `"trashed":true`) {
		t.Errorf("gc does not tell: %s", r.stdout)
	}
	h.end()
	w.must(0, "gc")
	w.empty()
}
