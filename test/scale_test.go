package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// manyDeployments makes a store of n deployments of 20 to a runtime, each as
// small as one can be.
func manyDeployments(t testing.TB, dir string, n int) string {
	t.Helper()
	const each = 20
	store := filepath.Join(dir, "store")
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"runtimes", "staging", "trash"} {
		if err := os.MkdirAll(filepath.Join(store, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(store, "store.toml"), "format = 1\n")
	write(filepath.Join(store, "lock"), "")
	for i := range n {
		name, version := fmt.Sprintf("runtime%d", i/each), fmt.Sprintf("%d.0", i%each)
		dep := filepath.Join(store, "runtimes", name, version)
		if err := os.MkdirAll(filepath.Join(dep, "files"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(dep, "files/.ref"), "")
		write(filepath.Join(dep, "activated"), "")
		write(filepath.Join(dep, "deployment.toml"), fmt.Sprintf(
			"name = %q\nversion = %q\norigin = \"/srv/%s-%s.tar.zst\"\ndigest = \"sha256:%064d\"\ninstalled = 2026-01-01T00:00:00Z\nsize = 123456\n",
			name, version, name, version, i))
		if i%each == 0 {
			if err := os.Symlink(version, filepath.Join(store, "runtimes", name, "current")); err != nil {
				t.Fatal(err)
			}
		}
	}
	return store
}

// timed runs the command on a store and returns how long it took and the most
// memory that it had, in bytes. The kernel counts the memory of the process
// that calls execve(2) as the program's own: between us, who have a lot, and
// the program there is a small one.
func timed(t testing.TB, store, config string, args ...string) (took time.Duration, memory int64) {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", slices.Concat([]string{"-c", `
import resource, subprocess, sys, time
start = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(int((time.monotonic() - start) * 1e9), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
`, released, "--config", config}, args)...)
	cmd.Env = append(os.Environ(), "BERTH_STORE="+store)
	out, err := cmd.Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &took, &memory)
	}
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return took, memory
}

// BenchmarkScale shows that list, and a gc that has nothing to do, take time
// and memory in proportion to what there is.
func BenchmarkScale(b *testing.B) {
	dir := b.TempDir()
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte("[gc]\nkeep = 1000\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{100, 1000, 10000} {
		store := manyDeployments(b, filepath.Join(dir, fmt.Sprint(n)), n)
		for _, command := range []string{"list", "gc"} {
			b.Run(fmt.Sprintf("%s/%d", command, n), func(b *testing.B) {
				var most int64
				for b.Loop() {
					_, memory := timed(b, store, config, command)
					most = max(most, memory)
				}
				b.ReportMetric(float64(most)/(1<<20), "MiB")
			})
		}
	}
}

// The bounds of the benchmark, with room for a machine that is busy.
func TestTenThousandDeployments(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte("[gc]\nkeep = 1000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	store := manyDeployments(t, dir, 10000)
	for _, command := range []string{"list", "gc"} {
		took, memory := timed(t, store, config, command)
		t.Logf("%s: %s, %d MiB", command, took, memory>>20)
		if took > 4*time.Second || memory > 64<<20 {
			t.Errorf("%s took %s and %d MiB", command, took, memory>>20)
		}
	}
}
