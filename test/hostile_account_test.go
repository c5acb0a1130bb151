package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// promptly runs the command, which another account must not make wait for ever.
func (w *world) promptly(args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"--config", w.path("config.toml")}, args...)...)
	cmd.Dir, cmd.Env = w.dir, w.env
	r := w.finish(cmd)
	if ctx.Err() != nil {
		w.t.Fatalf("berth %s hangs", strings.Join(args, " "))
	}
	return r
}

// victim makes a directory outside of the store, with what berth would look for
// in each of its parts, and returns what tells whether it is untouched.
func (w *world) victim() (path string, touched func()) {
	w.t.Helper()
	path = w.path("victim")
	out, err := exec.Command("sh", "-ec", `mkdir -p "$0" && cd "$0"
for d in runtimes/demo/1.0 demo/1.0 1.0 demo@1.0.abcdefgh demo@3.0/tree tree .; do
	mkdir -p $d/files/lib; : >$d/files/.ref; echo precious >$d/files/lib/a; echo precious >$d/metadata
	find "$1" -maxdepth 1 -type f -exec cp {} $d/ \;
done
ln -s 1.0 demo/current; ln -s 1.0 runtimes/demo/current; : >demo@3.0/lock; : >lock; : >.switch.new
chmod 600 metadata; chmod 500 1.0/files; chmod 700 .`, path, filepath.Dir(w.files("demo@1.0"))).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	describe := func() string {
		out, err := exec.Command("sh", "-c", `cd "$0" && find . -printf '%p %y %m %U %s %n %T@ %C@ %l\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum`, path).Output()
		if err != nil {
			w.t.Fatal(err)
		}
		return string(out)
	}
	before := describe()
	return path, func() {
		w.t.Helper()
		if after := describe(); after != before {
			w.t.Fatalf("outside of the store something changed. Before:\n%s\nafter:\n%s", before, after)
		}
	}
}

// swaps exchanges each of the paths with a symlink to the victim and back, over
// and over, until its standard input ends.
const swaps = `
import ctypes, os, select
libc = ctypes.CDLL(None, use_errno=True)
victim, paths = sys.argv[1], sys.argv[2:]
for p in paths:
    try:
        os.symlink(victim, p + '.swap')
    except OSError:
        pass
print('ready', flush=True)
n = swapped = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    p = paths[n % len(paths)]
    for turn in range(20):
        if libc.renameat2(-100, os.fsencode(p), -100, os.fsencode(p + '.swap'), 2) == 0:
            swapped += 1
    n += 1
for p in paths:
    if os.path.islink(p) and os.path.exists(p + '.swap'):
        libc.renameat2(-100, os.fsencode(p), -100, os.fsencode(p + '.swap'), 2)
print(swapped, flush=True)`

// Where another account can write to a directory on the store's path, or in it,
// nothing is promised but this: symlinks that it puts there lead nowhere.
func TestSymlinksUnderAWritableParentLeadNowhere(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"sticky": os.ModeSticky | 0o777, "not sticky": 0o777} {
		t.Run(name, func(t *testing.T) {
			w := newWorldIn(t, openDir(t, 0))
			w.install("1.0", "2.0")
			victim, touched := w.victim()
			archives := []string{w.smallArchive("3.0"), w.smallArchive("4.0")}
			parts := []string{"", "runtimes", "runtimes/demo", "runtimes/demo/1.0", "runtimes/demo/2.0/files", "staging", "trash"}
			paths := []string{victim}
			for _, part := range parts {
				paths = append(paths, filepath.Join(w.store, part))
			}
			for _, at := range append(paths[1:], w.dir) {
				if err := os.Chmod(at, mode); err != nil {
					t.Fatal(err)
				}
				// What is sticky is not: it belongs to the account.
				if at != w.dir {
					if err := os.Lchown(at, nobody, nobody); err != nil {
						t.Fatal(err)
					}
				}
			}
			for end := time.Now().Add(swapFor); time.Now().Before(end); {
				attacker := start(t, as(exec.Command("/usr/bin/python3", append([]string{"-c", "import sys" + swaps}, paths...)...), nobody))
				for _, args := range [][]string{
					{"install", archives[0]}, {"install", archives[1], "--switch"}, {"switch", "demo@2.0"},
					{"install", "--force", archives[0]}, {"gc"}, {"repair", "demo@1.0"}, {"remove", "demo@1.0"}, {"pin", "demo@2.0"},
					{"unpin", "demo@2.0"}, {"remove", "demo@3.0", "--defer"}, {"upgrade"}, {"remove", "demo", "--all"}, {"doctor"},
				} {
					w.promptly(args...)
				}
				attacker.end()
				touched()
				for _, version := range []string{"1.0", "2.0"} { // something to go on with
					w.promptly("install", w.path("demo-"+version+".tar.zst"))
				}
			}
			touched()
		})
	}
}

// swapFor is long enough that a single step through a symlink was always found.
const swapFor = 1500 * time.Millisecond

// A runtime's directory that belongs to another account has anything for a
// lock file. It is a broken deployment, which harms nobody else.
func TestAHostileLockFileHarmsNobodyElse(t *testing.T) {
	for what, script := range map[string]string{
		"symlink":   `ln -s "$1/precious" .ref`,
		"dangling":  `ln -s "$1/made" .ref`,
		"fifo":      `mkfifo .ref`,
		"directory": `mkdir .ref`,
		"device":    `mknod .ref c 1 3`,
		"hard link": `ln "$1/precious" .ref`,
		"socket":    `/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(".ref")'`,
		"nothing":   `true`,
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorldIn(t, openDir(t, 0))
			w.install("1.0", "1.1", "2.0")
			outside := w.path("outside")
			precious := w.write("outside/precious", "precious\n")
			if err := os.Chmod(precious, 0o600); err != nil {
				t.Fatal(err)
			}
			files := w.files("demo@1.0")
			before := listing(t, outside)
			if out, err := exec.Command("sh", "-ec", `cd "$0"; rm .ref; `+script+`; chown -hR 65534 ..`, files, outside).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if what == "hard link" { // chown went through it
				if err := os.Chown(precious, 0, 0); err != nil {
					t.Fatal(err)
				}
			}
			for _, how := range []string{"exec", "run"} {
				if r := w.promptly(how, "demo@1.0", "true"); r.status == 0 && what != "hard link" {
					t.Errorf("%s: it runs on a lock file that is none", how)
				}
			}
			for _, args := range [][]string{
				{"list"}, {"ps"}, {"verify", "demo@1.0"}, {"pin", "demo@1.0"},
				{"switch", "demo@1.0"}, {"switch", "demo@2.0"}, {"gc"}, {"doctor"}, {"repair", "demo@1.0"}, {"remove", "demo@1.0"}, {"gc"},
			} {
				w.promptly(args...)
			}
			if text, err := os.ReadFile(precious); err != nil || string(text) != "precious\n" {
				t.Errorf("outside: %q, %v", text, err)
			}
			st, err := os.Stat(precious)
			if err != nil || st.Mode() != 0o600 {
				t.Errorf("outside: %v, %v", st, err)
			}
			if after := listing(t, outside); what != "hard link" && after != before {
				t.Errorf("outside: %s, not %s", after, before)
			}
			if w.listed("demo@1.1") {
				t.Error("gc left what is sound, because of what is not")
			}
			w.must(0, "verify", "demo@2.0")
			w.must(0, "install", w.smallArchive("3.0"), "--switch")
		})
	}
}

// Whoever can read a lock file can hold it for ever. That keeps this version and
// stops nothing else; the store lock is not to be had.
func TestAnEndlessReadLockKeepsOneVersionOnly(t *testing.T) {
	w := newWorldIn(t, openDir(t, 0))
	w.install("1.0", "1.1", "2.0")
	start(t, as(python(`import fcntl
for at in sys.argv[1:]:
    try:
        f = open(at)
        fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if at.endswith('/lock'):
            sys.exit(at + ' can be locked')
        held = f
    except PermissionError:
        if not at.endswith('/lock'):
            raise`, w.files("demo@1.0")+"/.ref", w.store+"/lock"), nobody))
	began := time.Now()
	if r := w.promptly("gc"); r.status != 0 {
		t.Errorf("gc: exit status %d\n%s", r.status, r.stderr)
	}
	if !w.listed("demo@1.0") || w.listed("demo@1.1") {
		t.Errorf("left are:\n%s", w.must(0, "list").stdout)
	}
	if r := w.promptly("remove", "demo@1.0"); r.status != 75 || !strings.Contains(r.stderr, "python3") {
		t.Errorf("remove: exit status %d\n%s", r.status, r.stderr)
	}
	if r := w.promptly("install", w.smallArchive("1.0"), "--force"); r.status != 75 {
		t.Errorf("install --force: exit status %d\n%s", r.status, r.stderr)
	}
	for _, args := range [][]string{
		{"install", w.smallArchive("3.0"), "--switch"}, {"switch", "demo@1.0"}, {"switch", "demo@2.0"},
		{"remove", "demo@1.0", "--defer"}, {"gc"}, {"doctor"},
	} {
		if r := w.promptly(args...); r.status != 0 {
			t.Errorf("%q: exit status %d\n%s", args, r.status, r.stderr)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	if !w.listed("demo@1.0") {
		t.Error("it was collected under its reader")
	}
}
