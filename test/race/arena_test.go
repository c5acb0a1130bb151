package race

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// contested is the runtime that everybody works on.
	contested = "demo"
	// safe is one of which nothing is ever removed.
	safe = "safe"
	// newest is the contested runtime's version that its channel offers.
	newest = "9.0"
	// safeVersions is how many versions of safe there will be.
	safeVersions = 20
)

// versions are those of the contested runtime, beside the newest.
var versions = []string{"1.0", "1.1", "2.0", "2.1", "3.0", "3.1", "4.0", "4.1", "5.0", "5.1"}

// An arena is one store, and what has happened in it.
type arena struct {
	t     *testing.T
	dir   string
	store string
	sums  string

	mu         sync.Mutex
	reads      map[string]int // whole runs, by the kind of reader
	refused    map[string]int
	changes    int
	violations int
	log        []event
}

// An event is a change that a command reports.
type event struct {
	ref        string
	what       change
	start, end time.Time
	afterwards bool // listed, right after the end of an installation
}

type change string

const (
	installed change = "installed"
	removed   change = "removed"
)

func newArena(t *testing.T) *arena {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth-race-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &arena{
		t: t, dir: dir, store: filepath.Join(dir, "fast", "store"), sums: filepath.Join(dir, "sums"),
		reads: make(map[string]int), refused: make(map[string]int),
	}
	t.Cleanup(a.count)
	// In memory, where a sync takes no time in which nothing happens.
	at := filepath.Join(dir, "fast")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=2g,mode=0755"); err != nil {
		t.Fatalf("needs root: mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for _, v := range append([]string{newest}, versions...) {
		for _, build := range builds {
			pack(t, dir, contested, v, build)
		}
	}
	for i := range safeVersions {
		pack(t, dir, safe, a.safeVersion(i), builds[0])
	}
	a.offer(a.archive(contested, newest, builds[0]))
	a.write("inside", fmt.Sprintf(insideScript, regular()))
	a.write("foreign.py", foreignScript)
	a.write("config.toml", fmt.Sprintf("[gc]\nkeep = 1\ngrace = \"0s\"\n[runtime.%s]\nsource = %q\n[runtime.%s]\nkeep = 1000\n",
		contested, filepath.Join(dir, "channel"), safe))
	return a
}

// count adds what has happened to the total.
func (a *arena) count() {
	for _, n := range a.reads {
		total.runs += n
	}
	for _, n := range a.refused {
		total.refused += n
	}
	total.changes += a.changes
	total.violations += a.violations
}

func (a *arena) safeVersion(i int) string { return fmt.Sprintf("%d.0", i+1) }

func (a *arena) archive(name, version, build string) string {
	return filepath.Join(a.dir, build, fmt.Sprintf("%s-%s.tar", name, version))
}

func (a *arena) files(version string) string {
	return filepath.Join(a.store, "runtimes", contested, version, "files")
}

func (a *arena) write(name, content string) {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

// offer puts an archive into the channel, indexed.
func (a *arena) offer(archive string) {
	a.t.Helper()
	name := strings.TrimSuffix(filepath.Base(archive), ".tar") + ".tar.zst"
	a.write("channel/SHA256SUMS", "")
	out, err := a.berth("pack", archive, "-o", filepath.Join(a.dir, "channel", name)).Output()
	if err != nil {
		a.t.Fatalf("pack %s: %v", archive, err)
	}
	a.write("channel/SHA256SUMS", string(out))
}

// A result is what a run of a program left.
type result struct {
	stdout, stderr string
	status         int
	start, end     time.Time
}

// stuck is when a program that should have ended is a violation itself.
const stuck = 2 * time.Minute

// finish runs a program until nobody has its output open any more: a child of
// it that has stayed is part of it.
func (a *arena) finish(cmd *exec.Cmd) result {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	r := result{start: time.Now()}
	if err := cmd.Start(); err != nil {
		a.violation("cannot run %q: %v", cmd.Args, err)
		return result{status: -1}
	}
	late := time.AfterFunc(stuck, func() {
		a.violation("%q has not ended after %s", cmd.Args, stuck)
		_ = cmd.Process.Kill()
	})
	defer late.Stop()
	err := cmd.Wait()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		a.violation("cannot wait for %q: %v", cmd.Args, err)
	}
	r.end = time.Now()
	r.stdout, r.stderr, r.status = stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	return r
}

func (a *arena) berth(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--config", filepath.Join(a.dir, "config.toml"), "--store", a.store}, args...)...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "HOME="+a.dir, "XDG_DATA_HOME=", "XDG_CONFIG_HOME="+a.dir)
	return cmd
}

func (a *arena) violation(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.violations++; a.violations <= 20 {
		a.t.Errorf(format, args...)
	}
}

// record notes changes of the store.
func (a *arena) record(events ...event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, events...)
}

func (a *arena) random(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(*seed, uint64(stream)))
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// unseemly is what no message of the command may have, whatever it is about.
func unseemly(said string) bool {
	for _, sign := range []string{"no such file", "directory not empty", "panic:", "fatal error:", "goroutine ", "input/output error", "file exists"} {
		if strings.Contains(said, sign) {
			return true
		}
	}
	return false
}
