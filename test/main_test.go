// Package test tries the built command against real programs, real runtimes
// and real file systems.
package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// binary is the command under test, built by TestMain; released is the same as
// users get it, for what is measured: counting coverage takes memory and time.
var binary, released string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// For the accounts that some tests become.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	released = filepath.Join(dir, "berth")
	if err := build(released); err != nil {
		fmt.Fprintln(os.Stderr, "cannot build the command:", err)
		return 1
	}
	binary = released
	// Where the command's processes leave their coverage. It is not the
	// GOCOVERDIR that go test gives us, which other accounts cannot enter.
	if covered := os.Getenv("BERTH_COVERDIR"); covered != "" {
		binary = filepath.Join(dir, "covered", "berth")
		os.Setenv("GOCOVERDIR", covered)
		if err := build(binary, "-cover", "-covermode=atomic", "-coverpkg=berth/cmd/...,berth/config/...,berth/gc/...,berth/lock/...,berth/store/..."); err != nil {
			fmt.Fprintln(os.Stderr, "cannot build the command for coverage:", err)
			return 1
		}
	}
	return m.Run()
}

func build(output string, flags ...string) error {
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", output}, flags, []string{"berth/cmd/berth"})...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// A world is a place to run the command in: a home, a store and a
// configuration of its own.
type world struct {
	t     *testing.T
	dir   string
	store string
	env   []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldIn(t, t.TempDir())
}

func newWorldIn(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t: t, dir: dir, store: filepath.Join(dir, "store")}
	w.env = append(os.Environ(),
		"HOME="+dir, "XDG_DATA_HOME=", "XDG_CONFIG_HOME="+dir+"/config",
		"BERTH_STORE="+w.store, "NO_COLOR=")
	w.write("config.toml", "[gc]\nkeep = 0\ngrace = \"0s\"\n")
	return w
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

func (w *world) write(name, content string) string {
	w.t.Helper()
	path := w.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// A result is what a run of the command left.
type result struct {
	stdout, stderr string
	status         int
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// run runs the command with the world's configuration.
func (w *world) run(args ...string) result {
	w.t.Helper()
	cmd := w.command(append([]string{"--config", w.path("config.toml")}, args...)...)
	return w.finish(cmd)
}

func (w *world) finish(cmd *exec.Cmd) result {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("cannot run %q: %v", cmd.Args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs the command, which has to exit with status.
func (w *world) must(status int, args ...string) result {
	w.t.Helper()
	r := w.run(args...)
	if r.status != status {
		w.t.Fatalf("berth %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), r.status, status, r.stdout, r.stderr)
	}
	return r
}

// listed tells whether a version is in the store's listing.
func (w *world) listed(ref string) bool {
	w.t.Helper()
	name, version, _ := strings.Cut(ref, "@")
	for line := range strings.Lines(w.must(0, "list").stdout) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if cells[0] == name && cells[1] == version && !strings.Contains(line, "trash") {
			return true
		}
	}
	return false
}

func (w *world) files(ref string) string {
	name, version, _ := strings.Cut(ref, "@")
	return filepath.Join(w.store, "runtimes", name, version, "files")
}

// occupy has a process work in a version, without a lock, until the test ends.
func (w *world) occupy(ref string) {
	w.t.Helper()
	user := exec.Command("sleep", "60")
	user.Dir = w.files(ref)
	if err := user.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = user.Process.Kill()
		_ = user.Wait()
	})
}

// eventually waits for something that happens in its own time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// holder is a process that the test started to use a version.
type holder struct {
	t   *testing.T
	cmd *exec.Cmd
	in  interface{ Close() error }
}

// start runs a program that prints "ready" on a line when it is, and ends when
// its standard input does.
func start(t *testing.T, cmd *exec.Cmd) *holder {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start %q: %v", cmd.Args, err)
	}
	h := &holder{t, cmd, in}
	t.Cleanup(h.end)
	buf := make([]byte, 6)
	n := 0
	for n < len(buf) && err == nil {
		var m int
		m, err = out.Read(buf[n:])
		n += m
	}
	if string(buf[:n]) != "ready\n" {
		h.end()
		t.Fatalf("%q said %q (%v)\n%s", cmd.Args, buf[:n], err, stderr.String())
	}
	return h
}

// end lets the program end, and waits until it has.
func (h *holder) end() {
	if h.in == nil {
		return
	}
	h.in.Close()
	h.in = nil
	done := make(chan struct{})
	go func() { h.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		h.cmd.Process.Kill()
		<-done
	}
}

// waitScript is a shell's way to be a holder.
const waitScript = "echo ready; read line || :"
