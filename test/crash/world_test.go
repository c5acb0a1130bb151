package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/check"
)

const config = `[gc]
keep = 0
grace = "0s"
[runtime.demo]
source = "%s"
`

// A world is a directory with a store, archives and a configuration in it. It
// can be copied.
type world struct {
	t   *testing.T
	dir string
}

func (w *world) path(parts ...string) string {
	return filepath.Join(slices.Concat([]string{w.dir}, parts)...)
}

func (w *world) store() string { return w.path("store") }

func (w *world) files(version string) string { return w.path("store/runtimes/demo", version, "files") }

func (w *world) shell(script string) {
	w.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// newWorld packs archives of about 30 members, three versions that share half
// of their files, into a channel, and installs the first two.
func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t, dir}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.shell(`mkdir -p channel tree/files/bin tree/files/lib/deep tree/files/app
printf '[Runtime]\nname=demo\n' >tree/metadata
for i in 1 2 3 4 5 6 7 8 9; do head -c $((i * 3000)) /dev/urandom >tree/files/lib/same$i; done
head -c 400000 /dev/urandom >tree/files/lib/large
ln tree/files/lib/same1 tree/files/lib/deep/hard
ln -s ../lib/same2 tree/files/bin/link
: >tree/files/lib/empty; : >tree/files/app/.ref
touch outside
for v in 1 2 3; do
	for i in 1 2 3 4 5 6 7; do echo "$v $i" >tree/files/bin/tool$i; done
	chmod 755 tree/files/bin/tool*
	tar -C tree -cf channel/demo-$v.tar files metadata
done
rm -r tree
cd channel; sha256sum *.tar >SHA256SUMS`)
	if err := os.WriteFile(w.path("config.toml"), fmt.Appendf(nil, config, w.path("channel")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1", "2"} {
		if status, said := w.run("install", w.path("channel/demo-"+version+".tar"), "--switch", "--no-sync"); status != 0 {
			t.Fatal(said)
		}
	}
	return w
}

// copyTo copies the world, by the same path seen from inside: paths in it are
// those of the copy.
func (w *world) copyTo(t *testing.T, dir string) *world {
	t.Helper()
	if out, err := exec.Command("cp", "-a", w.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := &world{t, dir}
	if err := os.WriteFile(c.path("config.toml"), fmt.Appendf(nil, config, c.path("channel")), 0o644); err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, slices.Concat([]string{"--config", w.path("config.toml"), "--store", w.store()}, args)...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_CONFIG_HOME="+w.dir)
	return cmd
}

func (w *world) run(args ...string) (status int, said string) {
	w.t.Helper()
	out, err := w.command(args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if exit != nil {
		status = exit.ExitCode()
	}
	return status, string(out)
}

// hold takes a read lock on a version, as a program does that runs on it.
func (w *world) hold(version string) *os.File {
	w.t.Helper()
	f, err := os.Open(filepath.Join(w.files(version), ".ref"))
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// outside describes everything but the store.
func (w *world) outside() string {
	w.t.Helper()
	out, err := exec.Command("sh", "-c", `cd "$0" && find . -path ./store -prune -o -type f -print0 | sort -z | xargs -0 sha256sum; find . -path ./store -prune -o -printf '%p %y %m\n' | sort`, w.dir).Output()
	if err != nil {
		w.t.Fatal(err)
	}
	return string(out)
}

// look asks the checker, and gives the store's state in a line.
func (w *world) look() (state string, problems, left []string) {
	w.t.Helper()
	// Without this file it is no store yet, and must not have anything.
	if _, err := os.Lstat(w.path("store/store.toml")); errors.Is(err, os.ErrNotExist) {
		if list, _ := os.ReadDir(w.path("store/runtimes")); len(list) > 0 {
			problems = []string{"versions in what is no store"}
		}
		return "no store", problems, nil
	}
	r, err := check.Store(w.store())
	if err != nil {
		return "", []string{err.Error()}, nil
	}
	var marks []string
	for _, ref := range r.Listed {
		dir := filepath.Join(w.store(), "runtimes", strings.Replace(ref, "@", "/", 1))
		for _, mark := range []string{"keep", "deferred"} {
			if _, err := os.Lstat(filepath.Join(dir, mark)); err == nil {
				ref += "+" + mark
			}
		}
		marks = append(marks, ref)
	}
	return fmt.Sprint(marks, " ", r.Current), r.Problems, r.Left
}
