package race

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A reader is a kind of program that uses a version under a read lock.
type reader struct {
	name string
	// command starts it on a version, or on the current one if that is "".
	command func(a *arena, r *rand.Rand, version string) *exec.Cmd
	// refusal tells what it may say, and end with, instead of running.
	refusal func(result) bool
	copies  int // at once; 0: one
}

var readers = []reader{
	{"berth exec", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.walker(r, "exec", ref(version), os.Args[0])
	}, ours, 0},
	// The program that was started ends at once, and leaves one that has the
	// descriptor.
	{"berth exec, background", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.walker(r, "exec", ref(version), "sh", "-c", `"$0" & exit 0`, os.Args[0])
	}, ours, 0},
	{"berth exec --supervise", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.walker(r, "exec", "--supervise", ref(version), os.Args[0])
	}, ours, 0},
	// ... and leaves one that has not even that.
	{"berth exec --supervise, daemon", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		cmd := a.walker(r, "exec", "--supervise", ref(version), "sh", "-c", `setsid "$0" & exit 0`, os.Args[0])
		cmd.Env = append(cmd.Env, closeVariable+"=1")
		return cmd
	}, ours, 0},
	{"berth exec, static program", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.berth("exec", ref(version), "sh", "-c",
			`exec "$BERTH_FILES/bin/busybox" sh "$0" "$BERTH_FILES" "${BERTH_REF#*@}" "$1" "$2"`,
			filepath.Join(a.dir, "inside"), seconds(r), a.sums)
	}, ours, 0},
	{"berth run", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.berth("run", ref(version), "sh", "-c",
			`exec sh "$0" /usr "${BERTH_REF#*@}" "$1" "$2"`, filepath.Join(a.dir, "inside"), seconds(r), a.sums)
	}, ours, 0},
	{"berth run --supervise", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.berth("run", "--supervise", ref(version), "sh", "-c",
			`exec sh "$0" /usr "${BERTH_REF#*@}" "$1" "$2"`, filepath.Join(a.dir, "inside"), seconds(r), a.sums)
	}, ours, 0},
	{"bwrap --lock-file", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		version = a.resolve(version)
		return exec.Command("bwrap", "--ro-bind", a.files(version), "/usr", "--symlink", "usr/bin", "/bin",
			"--dev", "/dev", "--ro-bind", a.dir, "/arena", "--lock-file", "/usr/.ref",
			"/bin/sh", "/arena/inside", "/usr", version, seconds(r), "/arena/sums")
	}, bubblewraps, 0},
	{"Python, OFD lock", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.python(r, "ofd", version)
	}, pythons, 0},
	{"Python, POSIX lock", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.python(r, "posix", version)
	}, pythons, 0},
	// The moment between the open and the lock, drawn out: to within the time
	// that a collector waits for whoever is there, and to beyond it.
	{"berth exec, slow", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.slow(r, version, time.Duration(20+r.IntN(300))*time.Millisecond)
	}, ours, 0},
	{"berth exec, very slow", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return a.slow(r, version, time.Duration(2500+r.IntN(1500))*time.Millisecond)
	}, ours, 4},
	{"berth verify", func(a *arena, r *rand.Rand, version string) *exec.Cmd {
		return exec.Command("sh", append([]string{"-c", `"$@" >&2 && echo whole`, "sh"}, a.berth("verify", ref(version)).Args...)...)
	}, ours, 0},
}

// slow makes berth exec wait between the open of the lock file and the lock: it
// closes the directory that the file is in there.
func (a *arena) slow(r *rand.Rand, version string, wait time.Duration) *exec.Cmd {
	version = a.resolve(version)
	walker := a.walker(r, "exec", ref(version), os.Args[0])
	cmd := exec.Command("strace", append([]string{"-f", "-b", "execve", "-qq", "-o", "/dev/null", "-P", a.files(version),
		"-e", "trace=close", "-e", fmt.Sprintf("inject=close:delay_exit=%d", wait.Microseconds())}, walker.Args...)...)
	cmd.Env, cmd.Dir = walker.Env, walker.Dir
	return cmd
}

func ref(version string) string {
	if version == "" {
		return contested
	}
	return contested + "@" + version
}

// resolve does for programs of others what they do for themselves.
func (a *arena) resolve(version string) string {
	if version != "" {
		return version
	}
	version, err := os.Readlink(filepath.Join(a.store, "runtimes", contested, "current"))
	if err != nil {
		return versions[0]
	}
	return version
}

// pause is how long a reader stays between its looks: mostly a moment.
func pause(r *rand.Rand) time.Duration {
	if r.IntN(8) == 0 {
		return time.Duration(r.IntN(1500)) * time.Millisecond
	}
	return time.Duration(r.IntN(60)) * time.Millisecond
}

func seconds(r *rand.Rand) string { return fmt.Sprintf("%.3f", pause(r).Seconds()) }

func (a *arena) walker(r *rand.Rand, args ...string) *exec.Cmd {
	cmd := a.berth(args...)
	cmd.Env = append(cmd.Env, walkVariable+"="+pause(r).String())
	return cmd
}

// python opens, waits a while as a slow program does, and then locks.
func (a *arena) python(r *rand.Rand, kind, version string) *exec.Cmd {
	before := time.Duration(r.IntN(30)) * time.Millisecond
	if r.IntN(20) == 0 {
		before = 3 * time.Second // longer than a collector waits
	}
	return a.foreign(kind, a.resolve(version), before, pause(r))
}

func (a *arena) foreign(kind, version string, before, between time.Duration) *exec.Cmd {
	return exec.Command("/usr/bin/python3", filepath.Join(a.dir, "foreign.py"), kind, a.files(version), version, a.sums,
		fmt.Sprintf("%.3f", before.Seconds()), fmt.Sprintf("%.3f", between.Seconds()))
}

var (
	oursAbsent  = regexp.MustCompile(`(?m)^berth: cannot (use|verify) demo(@\S+)?: (not installed|no version is current|to be removed once it is free)$`)
	oursBusy    = regexp.MustCompile(`(?m)^berth: cannot (use|verify) demo(@\S+)?: .*locked by another( \(resource temporarily unavailable\))?$`)
	bwrapRefuse = regexp.MustCompile(`(?m)^bwrap: (Can't find source path|Can't get type of source|Can't bind mount|Unable to open lock file|Unable to lock file) `)
)

func ours(r result) bool {
	return r.stdout == "" && !unseemly(r.stderr) &&
		(r.status == 66 && oursAbsent.MatchString(r.stderr) || r.status == 75 && oursBusy.MatchString(r.stderr))
}

func bubblewraps(r result) bool { return r.status == 1 && bwrapRefuse.MatchString(r.stderr) }

func pythons(r result) bool {
	return r.status == 75 && strings.HasPrefix(r.stdout, "refused: ")
}

// read runs readers of one kind until stop is closed.
func (a *arena) read(k reader, r *rand.Rand, stop <-chan struct{}) {
	for !closed(stop) {
		version := ""
		if r.IntN(3) > 0 {
			version = pick(r, append([]string{newest}, versions...))
		}
		a.readOnce(k, r, version)
		time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
	}
}

func (a *arena) readOnce(k reader, r *rand.Rand, version string) {
	cmd := k.command(a, r, version)
	got := a.finish(cmd)
	a.recordSupervised(got)
	switch {
	case got.status == 0 && got.stdout == whole && !unseemly(got.stderr):
		a.mu.Lock()
		a.reads[k.name]++
		a.mu.Unlock()
	case k.refusal(got):
		a.mu.Lock()
		a.refused[k.name]++
		a.mu.Unlock()
	default:
		a.violation("%s: %q: exit status %d\n%s%s", k.name, cmd.Args, got.status, got.stdout, got.stderr)
	}
}

var supervisedRemoval = regexp.MustCompile(`(?m)^berth: removed (\S+), which freed`)

// recordSupervised notes what a supervisor has collected in the end.
func (a *arena) recordSupervised(got result) {
	for _, m := range supervisedRemoval.FindAllStringSubmatch(got.stderr, -1) {
		a.record(event{ref: m[1], what: removed, start: got.start, end: got.end})
	}
}
