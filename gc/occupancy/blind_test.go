package occupancy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/store"
)

// self is the test binary, where every account may run it.
func self(t *testing.T) string {
	t.Helper()
	path := scratch(t) + "/looker"
	copyFile(t, "/proc/self/exe", path)
	return path
}

// blindTo lists the kinds. It leaves out what not even root may look into on
// the machine at hand, such as a supervisor under a security module.
func blindTo(t *testing.T, sight store.Sight) string {
	t.Helper()
	var kinds []string
	known := slices.DeleteFunc(slices.Clone(sight.Blind), func(b store.Blind) bool {
		return strings.HasPrefix(b.Text, strconv.Itoa(unreadable(t))+" process")
	})
	for _, b := range known {
		kinds = append(kinds, string(b.Kind))
	}
	return strings.Join(kinds, " ")
}

// expectBlind looks until the kinds are as wanted: what else starts and ends on
// the machine may hide something for a moment.
func expectBlind(t *testing.T, want string, look func() store.Sight) {
	t.Helper()
	var sight store.Sight
	for range 20 {
		if sight = look(); blindTo(t, sight) == want {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Errorf("blind to %+v, want %q", sight.Blind, want)
}

func nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// unreadable counts the processes that root may not look into.
func unreadable(t *testing.T) (n int) {
	t.Helper()
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	must(t, err)
	for _, exe := range exes {
		if _, err := os.Readlink(exe); errors.Is(err, os.ErrPermission) {
			n++
		}
	}
	return n
}

// lookAsNobody looks with no rights at all.
func lookAsNobody(t *testing.T, trees ...store.Tree) store.Sight {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.SysProcAttr = nobody()
	return lookWith(t, cmd, trees...)
}

// Of the processes of others an unprivileged looker sees their mounts and
// process-associated locks, and says that there may be more.
func TestUnprivileged(t *testing.T) {
	dir := scratch(t)
	hidden, mounted, locked, mine := newTree(t, dir+"/hidden"), newTree(t, dir+"/mounted"), newTree(t, dir+"/locked"), newTree(t, dir+"/mine")
	python(t, mapIt, dir+"/hidden/files/lib/x.so")
	startReady(t, exec.Command("bwrap", "--ro-bind", "/", "/", "--ro-bind", dir+"/mounted/files", "/mnt", "sh", "-c", "echo ready; exec sleep 1000"))
	locker := python(t, posix, dir+"/locked/files/.ref")
	cmd := exec.Command(dir+"/mine/files/bin/sleep", "1000")
	cmd.SysProcAttr = nobody()
	pid := start(t, cmd)

	sight := lookAsNobody(t, hidden, mounted, locked, mine)
	expect(t, sight.Uses[0], 0)
	expect(t, sight.Uses[1], 0, "mount files")
	expect(t, sight.Uses[2], locker, "lock files/.ref")
	expect(t, sight.Uses[3], pid, "exe files/bin/sleep", "map files/bin/sleep")
	if uses := sight.Uses[2]; len(uses) != 1 || uses[0].Account != "root" || uses[0].Command != "python3" && !strings.HasPrefix(uses[0].Command, "python") {
		t.Errorf("got %+v", uses)
	}
	if !strings.Contains(blindTo(t, sight), "accounts") || !strings.HasSuffix(sight.Blind[0].Text, " processes of other accounts") {
		t.Errorf("got %+v, want it blind to accounts", sight.Blind)
	}
}

// A process can be closed to its own account. It is told apart, because that
// account can enter the store.
func TestOwnButClosed(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	cmd := pythonCmd("assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0 # PR_SET_DUMPABLE\nf = open(path)", dir+"/tree/files/lib/x.so")
	cmd.SysProcAttr = nobody()
	pid := startReady(t, cmd)
	want := store.Blind{Kind: store.BlindOwn, Text: "1 process of our account that may not be read"}
	if sight := lookAsNobody(t, tree); !slices.Contains(sight.Blind, want) {
		t.Errorf("got %+v, want it blind to one of its own", sight.Blind)
	}
	expect(t, look(t, tree).Uses[0], pid, "fd files/lib/x.so")
}

func TestNothingHidden(t *testing.T) {
	tree := newTree(t, scratch(t)+"/tree")
	startReady(t, exec.Command("bwrap", "--ro-bind", "/", "/", "sh", "-c", "echo ready; exec sleep 1000"))
	expectBlind(t, "", func() store.Sight { return look(t, tree) })
}

func TestHidepid(t *testing.T) {
	tree := newTree(t, scratch(t)+"/tree")
	binary := self(t)
	for _, option := range []string{"hidepid=1", "hidepid=2", "hidepid=4", "subset=pid"} {
		t.Run(option, func(t *testing.T) {
			// The looker runs under our own number, as somebody else.
			script := `mount -t proc -o ` + option + ` proc /proc && exec "$@"`
			cmd := exec.Command("unshare", "-m", "sh", "-c", script, "sh", "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", binary)
			if sight := lookWith(t, cmd, tree); !strings.Contains(blindTo(t, sight), "hidepid") {
				t.Errorf("got %+v, want it blind by %s", sight.Blind, option)
			}
			cmd = exec.Command("unshare", "-m", "sh", "-c", script, "sh", binary)
			if sight := lookWith(t, cmd, tree); strings.Contains(blindTo(t, sight), "hidepid") {
				t.Errorf("as root: got %+v, want nothing hidden", sight.Blind)
			}
		})
	}
}

func TestPIDNamespace(t *testing.T) {
	tree := newTree(t, scratch(t)+"/tree")
	binary := self(t)
	expectBlind(t, "pidns", func() store.Sight {
		return lookWith(t, exec.Command("unshare", "--pid", "--fork", "--mount-proc", binary), tree)
	})
}

func TestOverlayIsBlind(t *testing.T) {
	dir := fileSystems["overlay"](t)
	trees := []store.Tree{newTree(t, dir+"/tree"), newTree(t, dir+"/other")}
	expectBlind(t, "overlay", func() store.Sight { return look(t, trees...) })
}

// A namespace of which only a chroot is left shows a part of its mounts.
func TestPartialNamespace(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	other := newTree(t, dir+"/other")
	startReady(t, exec.Command("unshare", "-m", "chroot", other.Path+"/files", "/bin/busybox", "sh", "-c", "echo ready; exec /bin/busybox sleep 1000"))
	expectBlind(t, "mounts", func() store.Sight { return look(t, tree) })
}

// A witness outside the chroot makes the namespace whole, wherever it comes in
// the list.
func TestChrootBesideWitness(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	must(t, os.MkdirAll(tree.Path+"/files/inner", 0o755))
	for name, script := range map[string]string{
		"before": `chroot "$0/files" /bin/busybox sleep 1000 & sleep .3; sleep 1000 & echo ready; wait`,
		"after":  `sleep 1000 & sleep .1; chroot "$0/files" /bin/busybox sh -c 'echo ready; exec /bin/busybox sleep 1000' & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			startReady(t, exec.Command("unshare", "-m", "sh", "-c", script, tree.Path))
			sight := look(t, tree)
			expect(t, sight.Uses[0], 0, "root files", "cwd files", "exe files/bin/busybox", "map files/bin/busybox")
			expectBlind(t, "", func() store.Sight { return look(t, tree) })
		})
	}
}

// A looker in a chroot that is no mount point has no line for "/", and sees
// what is used by the same paths.
func TestChrootedLooker(t *testing.T) {
	dir := scratch(t)
	for _, d := range []string{"/proc", "/tmp"} {
		must(t, os.Mkdir(dir+d, 0o755))
	}
	mountAt(t, dir+"/proc", "-t", "proc", "proc")
	copyFile(t, "/usr/bin/busybox", dir+"/busybox")
	outside := newTree(t, dir+"/tree")
	inside := outside
	inside.Path = "/tree"
	pid := python(t, "f = open(path)", dir+"/tree/files/lib/x.so")
	static := buildStatic(t)
	copyFile(t, static, dir+"/looker")
	cmd := exec.Command("/looker")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir}
	cmd.Dir = "/"
	sight := lookWith(t, cmd, inside)
	expect(t, sight.Uses[0], pid, "fd files/lib/x.so")
	if blindTo(t, sight) != "mounts" {
		t.Errorf("got %+v, want it blind to mounts", sight.Blind)
	}
}

// buildStatic makes a test binary that needs no libraries.
func buildStatic(t *testing.T) string {
	t.Helper()
	path := scratch(t) + "/static"
	cmd := exec.Command("go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("needs go: %v: %s", err, out)
	}
	return path
}
