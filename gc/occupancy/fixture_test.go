package occupancy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/gc/occupancy"
	"berth/store"
)

// TestMain makes the test binary a looker too, for tests that need one with
// other rights or in other namespaces.
func TestMain(m *testing.M) {
	if paths := os.Getenv("OCCUPANCY_LOOK"); paths != "" {
		os.Exit(lookFor(strings.Split(paths, ":")))
	}
	// So that start can wait for the children of its children.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func lookFor(paths []string) int {
	var trees []store.Tree
	for _, p := range paths {
		f, err := openDir(p)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		trees = append(trees, store.Tree{Dir: f, Path: p})
	}
	sight, err := occupancy.New().Look(context.Background(), trees)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(sight)
	return 0
}

// lookWith looks through another process of the test binary.
func lookWith(t *testing.T, cmd *exec.Cmd, trees ...store.Tree) store.Sight {
	t.Helper()
	var paths []string
	for _, tree := range trees {
		paths = append(paths, tree.Path)
	}
	cmd.Env = append(os.Environ(), "OCCUPANCY_LOOK="+strings.Join(paths, ":"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the looker failed: %v", err)
	}
	var sight store.Sight
	if err := json.Unmarshal(out, &sight); err != nil {
		t.Fatal(err)
	}
	return sight
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// scratch is a directory that other accounts may enter.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "occupancy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openTree(t *testing.T, path string) store.Tree {
	t.Helper()
	f, err := openDir(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return store.Tree{Dir: f, Path: path}
}

// newTree makes a deployment.
func newTree(t *testing.T, path string) store.Tree {
	t.Helper()
	must(t, os.MkdirAll(path+"/files/lib", 0o755))
	must(t, os.MkdirAll(path+"/files/bin", 0o755))
	must(t, os.MkdirAll(path+"/files/app/deep", 0o755))
	must(t, os.WriteFile(path+"/files/.ref", nil, 0o644))
	must(t, os.WriteFile(path+"/files/app/deep/.ref", nil, 0o644))
	must(t, os.WriteFile(path+"/files/lib/x.so", make([]byte, 8192), 0o644))
	copyFile(t, "/usr/bin/busybox", path+"/files/bin/busybox")
	copyFile(t, "/bin/sleep", path+"/files/bin/sleep")
	return openTree(t, path)
}

// newTwin makes a tree whose files, but for its lock files, are those of
// another one.
func newTwin(t *testing.T, of, path string) store.Tree {
	t.Helper()
	run(t, "cp", "-al", of, path)
	for _, ref := range []string{path + "/files/.ref", path + "/files/app/deep/.ref"} {
		must(t, os.Remove(ref))
		must(t, os.WriteFile(ref, nil, 0o644))
	}
	return openTree(t, path)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("needs %s: %v", from, err)
	}
	must(t, os.WriteFile(to, data, 0o755))
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("needs %s: %v: %s", name, err, out)
	}
}

// start starts a process that lasts until the test ends, with all that it
// starts itself.
func start(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		// Half of a group that is ending is a sight that confuses other tests.
		for err := error(nil); err != syscall.ECHILD; {
			_, err = syscall.Wait4(-cmd.Process.Pid, nil, 0, nil)
		}
	})
	return cmd.Process.Pid
}

// startReady waits until the process says a line "ready".
func startReady(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	out, err := cmd.StdoutPipe()
	must(t, err)
	pid := start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("%s said %q, %v", cmd, line, err)
	}
	go io.Copy(io.Discard, out)
	return pid
}

// python runs a script that says when it is ready and then sleeps.
func python(t *testing.T, script string, args ...string) int {
	t.Helper()
	return startReady(t, pythonCmd(script, args...))
}

func pythonCmd(script string, args ...string) *exec.Cmd {
	const head = "import ctypes, fcntl, os, struct, sys, time\npath = sys.argv[1]\n"
	const tail = "\nprint('ready', flush=True)\ntime.sleep(1000)\n"
	return exec.Command("/usr/bin/python3", append([]string{"-c", head + script + tail}, args...)...)
}

func look(t *testing.T, trees ...store.Tree) store.Sight {
	t.Helper()
	sight, err := occupancy.New().Look(t.Context(), trees)
	must(t, err)
	if len(sight.Uses) != len(trees) {
		t.Fatalf("uses of %d trees, want %d", len(sight.Uses), len(trees))
	}
	return sight
}

// brief lists ways and paths, each once; of one process if pid is not 0.
func brief(uses []store.Use, pid int) []string {
	var lines []string
	for _, u := range uses {
		if pid == 0 || u.PID == pid {
			lines = append(lines, string(u.How)+" "+u.Path)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

func expect(t *testing.T, uses []store.Use, pid int, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := brief(uses, pid); !slices.Equal(got, want) {
		t.Errorf("process %d: got %q, want %q", pid, got, want)
	}
}

// mountAt mounts until the test ends.
func mountAt(t *testing.T, point string, args ...string) string {
	t.Helper()
	must(t, os.MkdirAll(point, 0o755))
	run(t, "mount", append(args, point)...)
	t.Cleanup(func() {
		for range 50 {
			if unix.Unmount(point, 0) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		unix.Unmount(point, unix.MNT_DETACH)
	})
	return point
}

func loop(t *testing.T, fstype, point string) string {
	t.Helper()
	image := filepath.Join(scratch(t), "image")
	f, err := os.Create(image)
	must(t, err)
	must(t, f.Truncate(400<<20))
	must(t, f.Close())
	run(t, "mkfs."+fstype, "-q", image)
	return mountAt(t, point, "-o", "loop", "-t", fstype, image)
}
