package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// smallRuntimes makes two runtimes of a few files, with a program that a
// container without a library can run.
func smallRuntimes(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	command := func(argv ...string) {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
	}
	write := func(path, content string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "runtimes")
	tree := filepath.Join(dir, "tree")
	source := filepath.Join(dir, "true.go")
	write(source, "package main\n\nfunc main() {}\n")
	write(filepath.Join(out, "SHA256SUMS"), "the two runtimes of a test\n")
	write(filepath.Join(tree, "metadata"), "[Runtime]\nname=debian\n")
	for i := range 20 {
		write(filepath.Join(tree, "files/lib", fmt.Sprint(i)), strings.Repeat(fmt.Sprint(i), 5000))
	}
	if err := os.Mkdir(filepath.Join(tree, "files/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	command("go", "build", "-o", filepath.Join(tree, "files/bin/true"), source)
	for _, version := range []string{oldVersion, newVersion} {
		write(filepath.Join(tree, "files/etc/berth-runtime"), version+"\n")
		write(filepath.Join(tree, "files/lib/changed"), strings.Repeat(version, 9000))
		command("tar", "-C", tree, "--zstd", "-cf", filepath.Join(out, "debian-"+version+".tar.zst"), "files", "metadata")
	}
	return out
}

// inMemory is a directory where a sync does not wait for a busy disk.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "berth-bench-test.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// All rows, on runtimes so small that the figures mean nothing.
func TestWholeBench(t *testing.T) {
	runtimes, docs, place := smallRuntimes(t), t.TempDir(), inMemory(t)
	opt := options{runtimes: runtimes, work: t.TempDir(), fs: place, docs: docs, rounds: 1, launches: 2}
	if err := run(t.Context(), opt, nil); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if !strings.Contains(string(page), "| "+g.name+" | `") {
			t.Errorf("the page has no command of the rows %q", g.name)
		}
	}
	for _, private := range []string{runtimes, place, opt.work} {
		if strings.Contains(string(page), private) {
			t.Errorf("the page names %s:\n%s", private, page)
		}
	}
	picture, err := os.ReadFile(filepath.Join(docs, "benchmarks.svg"))
	if err != nil {
		t.Fatal(err)
	}
	drawn(t, picture)
	left, err := os.ReadDir(place)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefusals(t *testing.T) {
	good := options{runtimes: t.TempDir(), work: t.TempDir(), rounds: 1}
	for want, change := range map[string]func(*options){
		"-n 0":        func(o *options) { o.rounds = 0 },
		`no "nought"`: func(o *options) { o.groups = []string{"zst", "nought"} },
		"build.sh":    func(*options) {}, // no runtimes
	} {
		opt := good
		change(&opt)
		if err := run(t.Context(), opt, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := run(t.Context(), good, []string{"more"}); err == nil {
		t.Error("an argument was taken")
	}
}

func TestAbbreviate(t *testing.T) {
	b := &bench{scratch: "/bench/w/s", berth: "/bench/w/s/berth", in: inputs{dir: "/bench/w", runtimes: "/r"}}
	digest := strings.Repeat("0a", 32)
	for want, argv := range map[string][]string{
		"berth --store DIR/store install a.tar --toc-sha256 HEX": b.berthArgs("/bench/w/s/round/0", "install", "/bench/w/a.tar", "--toc-sha256", digest),
		"flatpak update DIR":          {"env", "HOME=/fs/s/round/0", "A=b", "flatpak", "update", "/bench/w/s/round/0"},
		"sh -c 'tar -xf $0' b.tar":    {"sh", "-c", "tar -xf $0", "/r/b.tar"},
		"tar -xf packed.tar -C DIR/x": {"tar", "-xf", "/bench/w/s/packed.tar", "-C", "/bench/w/s/round/0/x"},
	} {
		if got := b.abbreviate("/bench/w/s/round/0", argv); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A command that succeeds without having done its work is a failure.
func TestWorkIsLookedAt(t *testing.T) {
	opt := options{runtimes: smallRuntimes(t), work: inMemory(t), rounds: 1}
	b, err := newBench(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	idle := b.unpack("idle", b.in.zst(oldVersion), oldVersion)
	idle.command = func(string) []string { return []string{"true"} }
	if _, err := b.compare("idle", idle); err == nil || !strings.Contains(err.Error(), "not done") {
		t.Errorf("error %v", err)
	}
}
