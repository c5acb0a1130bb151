package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

// A world is a directory with a store in it, and a file that is none of the
// store's business. It can be copied.
type world struct {
	t   *testing.T
	dir string
}

func (w *world) path(parts ...string) string {
	return filepath.Join(slices.Concat([]string{w.dir}, parts)...)
}

func (w *world) store() string { return w.path("store") }

func (w *world) version(version string) string { return w.path("store/runtimes/demo", version) }

// archive is in the channel, which all worlds share.
func archive(version string) string { return filepath.Join(disk, "channel/demo-"+version+".tar") }

func (w *world) shell(script string) {
	w.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// newWorld packs archives of about 30 members, three versions that share half
// of their files, into the channel, and installs the first two.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t, filepath.Join(disk, "template")}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.shell(`mkdir -p ../channel tree/files/bin tree/files/lib/deep tree/files/app
printf '[Runtime]\nname=demo\n' >tree/metadata
for i in 1 2 3 4 5 6 7 8; do head -c $((i * 300)) /dev/urandom >tree/files/lib/same$i; done
head -c 40000 /dev/urandom >tree/files/lib/large
ln tree/files/lib/same1 tree/files/lib/deep/hard
ln -s ../lib/same2 tree/files/bin/link
: >tree/files/lib/empty; : >tree/files/app/.ref
echo precious >outside
for v in 1 2 3; do
	for i in 1 2 3 4 5 6 7; do echo "$v $i" >tree/files/bin/tool$i; done
	chmod 755 tree/files/bin/tool*
	tar -C tree -cf ../channel/demo-$v.tar files metadata
done
rm -r tree
cd ../channel; sha256sum *.tar >SHA256SUMS`)
	if err := os.WriteFile(w.path("config.toml"), fmt.Appendf(nil, config, filepath.Join(disk, "channel")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1", "2"} {
		w.must("install", archive(version), "--switch")
	}
	return w
}

func (w *world) copyTo(t *testing.T, dir string) *world {
	t.Helper()
	if out, err := exec.Command("cp", "-a", w.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &world{t, dir}
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(berth, slices.Concat([]string{"--config", w.path("config.toml"), "--store", w.store()}, args)...)
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

func (w *world) must(args ...string) {
	w.t.Helper()
	if status, said := w.run(args...); status != 0 {
		w.t.Fatalf("%q: exit status %d\n%s", args, status, said)
	}
}

// A holder is a program that runs on a version.
type holder struct{ dir, ref *os.File }

// hold takes a read lock on a version.
func (w *world) hold(version string) *holder {
	w.t.Helper()
	dir, err := os.Open(w.version(version))
	if err != nil {
		w.t.Fatal(err)
	}
	ref, err := os.Open(filepath.Join(w.version(version), "files/.ref"))
	if err == nil {
		err = unix.FcntlFlock(ref.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &holder{dir, ref}
}

// loses tells what the version has lost, wherever it has been renamed to.
func (h *holder) loses() []string {
	return check.Deployment(fmt.Sprintf("/proc/self/fd/%d", h.dir.Fd()))
}

func (h *holder) release() {
	h.ref.Close()
	h.dir.Close()
}

// outside describes everything but the store: the rest of the world, and the
// channel.
func (w *world) outside() string {
	w.t.Helper()
	var b strings.Builder
	for _, root := range []string{w.dir, filepath.Join(disk, "channel")} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path == w.store() {
				return fs.SkipDir
			}
			st, err := os.Lstat(path)
			if err != nil {
				return err
			}
			raw := st.Sys().(*syscall.Stat_t)
			if path == w.dir {
				// The store may be made in it.
				raw.Mtim, raw.Ctim, raw.Nlink, raw.Size = syscall.Timespec{}, syscall.Timespec{}, 0, 0
			}
			fmt.Fprintln(&b, path, raw.Mode, raw.Uid, raw.Ino, raw.Nlink, raw.Size, raw.Mtim, raw.Ctim)
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return b.String()
}

// tree tells the tree of a version from another one in the same place: 0 if
// there is none.
func (w *world) tree(version string) uint64 {
	st, err := os.Lstat(w.version(version))
	if err != nil {
		return 0
	}
	return st.Sys().(*syscall.Stat_t).Ino
}

// trash finds trees that somebody could still lock though they are not whole:
// their lock files have to be the first to go, and the main one before others.
func (w *world) trash() (problems []string) {
	trees, err := filepath.Glob(w.path("store/trash/*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, tree := range trees {
		_, lockable := os.Lstat(filepath.Join(tree, "files/.ref"))
		_, nested := os.Lstat(filepath.Join(tree, "files/app/.ref"))
		if lockable != nil && nested != nil {
			continue
		}
		ref := strings.TrimSuffix(filepath.Base(tree), filepath.Ext(tree))
		for _, p := range check.Deployment(tree) {
			if lockable == nil || !strings.Contains(p, `.ref`) && !strings.HasPrefix(p, `changed ".": time`) {
				problems = append(problems, fmt.Sprintf("%s: %s, in the trash with a lock file", ref, p))
			}
		}
	}
	return problems
}

// A state is what a store promises.
type state struct {
	versions map[string]string // by version: its marks
	current  string
	problems []string // of what is listed
	trash    []string // of what is not
	left     []string
}

func (s *state) String() string {
	var list []string
	for _, v := range slices.Sorted(maps.Keys(s.versions)) {
		list = append(list, v+s.versions[v])
	}
	return fmt.Sprintf("%s, current %q", list, s.current)
}

func (s *state) equal(o *state) bool { return s.String() == o.String() }

// look asks the checker.
func (w *world) look() *state {
	w.t.Helper()
	s := &state{versions: make(map[string]string)}
	// Without this file it is no store yet, and must not have anything.
	if _, err := os.Lstat(w.path("store/store.toml")); errors.Is(err, os.ErrNotExist) {
		if list, _ := os.ReadDir(w.path("store/runtimes")); len(list) > 0 {
			s.problems = []string{"versions in what is no store"}
		}
		return s
	}
	r, err := check.Store(w.store())
	if err != nil {
		s.problems = []string{err.Error()}
		return s
	}
	s.problems, s.left, s.current = r.Problems, r.Left, r.Current["demo"]
	s.trash = w.trash()
	for _, list := range [][]string{s.problems, s.trash} {
		for i, p := range list {
			list[i] = strings.ReplaceAll(p, w.dir+"/", "")
		}
	}
	for _, ref := range r.Listed {
		v := strings.TrimPrefix(ref, "demo@")
		s.versions[v] = ""
		for _, mark := range []string{"keep", "deferred"} {
			if _, err := os.Lstat(filepath.Join(w.version(v), mark)); err == nil {
				s.versions[v] += "+" + mark
			}
		}
	}
	return s
}
