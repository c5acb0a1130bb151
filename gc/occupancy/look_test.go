package occupancy_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/gc/occupancy"
	"berth/store"
)

const (
	mapIt = "f = os.open(path, os.O_RDONLY)\nassert ctypes.CDLL(None).mmap(None, ctypes.c_size_t(4096), 1, 2, f, ctypes.c_long(0)) != -1\nos.close(f)"
	// mountAside mounts a directory elsewhere, and unmountAside takes it away
	// under whoever uses it.
	mountAside = "libc = ctypes.CDLL(None)\naside = sys.argv[2]\n" +
		"assert libc.mount(path.encode(), aside.encode(), None, 4096, None) == 0\n"
	unmountAside = "assert libc.umount2(aside.encode(), 2) == 0\n"
	leave        = "assert libc.unshare(0x20000) == 0 and libc.mount(None, b'/', None, 0x44000, None) == 0\n"
	posix        = "f = open(path)\nfcntl.lockf(f, fcntl.LOCK_SH)"
	ofd          = "f = os.open(path, os.O_RDONLY)\nfcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))"
)

// fileSystems are where trees can be. Each makes an empty directory.
var fileSystems = map[string]func(t *testing.T) string{
	"plain": scratch,
	"ext4":  func(t *testing.T) string { return loop(t, "ext4", scratch(t)+"/m") },
	"xfs":   func(t *testing.T) string { return loop(t, "xfs", scratch(t)+"/m") },
	"btrfs": func(t *testing.T) string { return loop(t, "btrfs", scratch(t)+"/m") },
	"btrfs subvolume": func(t *testing.T) string {
		sub := loop(t, "btrfs", scratch(t)+"/m") + "/sub"
		run(t, "btrfs", "subvolume", "create", sub)
		return sub
	},
	"btrfs subvolume mounted": func(t *testing.T) string {
		dir := scratch(t)
		top := loop(t, "btrfs", dir+"/m")
		run(t, "btrfs", "subvolume", "create", top+"/sub")
		return mountAt(t, dir+"/s", "--bind", top+"/sub")
	},
	"tmpfs": func(t *testing.T) string { return mountAt(t, scratch(t)+"/m", "-t", "tmpfs", "tmpfs") },
	"bind":  func(t *testing.T) string { return mountAt(t, scratch(t)+"/m", "--bind", scratch(t)) },
	"overlay": func(t *testing.T) string {
		dir := mountAt(t, scratch(t)+"/m", "-t", "tmpfs", "tmpfs")
		for _, d := range []string{"/lower", "/upper", "/work"} {
			must(t, os.Mkdir(dir+d, 0o755))
		}
		return mountAt(t, dir+"/merged", "-t", "overlay", "-o",
			"lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work", "overlay")
	},
}

// ways are how a process can use a tree: it starts one and tells what of the
// tree is used, by the process whose number is returned, or by any if it is 0.
var ways = map[string]func(t *testing.T, tree string) (pid int, want []string){
	"map": func(t *testing.T, tree string) (int, []string) {
		return python(t, mapIt, tree+"/files/lib/x.so"), []string{"map files/lib/x.so"}
	},
	"exe": func(t *testing.T, tree string) (int, []string) {
		return start(t, exec.Command(tree+"/files/bin/sleep", "1000")), []string{"exe files/bin/sleep", "map files/bin/sleep"}
	},
	"cwd": func(t *testing.T, tree string) (int, []string) {
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Dir = tree + "/files/app"
		return start(t, cmd), []string{"cwd files/app"}
	},
	"cwd at the top": func(t *testing.T, tree string) (int, []string) {
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Dir = tree
		return start(t, cmd), []string{"cwd ."}
	},
	"root": func(t *testing.T, tree string) (int, []string) {
		cmd := exec.Command("/bin/busybox", "sh", "-c", "echo ready; exec /bin/busybox sleep 1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: tree + "/files"}
		cmd.Dir = "/"
		return startReady(t, cmd), []string{"root files", "cwd files", "exe files/bin/busybox", "map files/bin/busybox"}
	},
	"directories of a thread": func(t *testing.T, tree string) (int, []string) {
		return python(t, `import threading
went = threading.Event()
def work():
    assert ctypes.CDLL(None).unshare(0x200) == 0 # CLONE_FS
    os.chdir(path + '/lib')
    os.chroot(path)
    went.set()
    time.sleep(1000)
threading.Thread(target=work, daemon=True).start()
went.wait()`, tree+"/files"), []string{"root files", "cwd files/lib"}
	},
	"fd": func(t *testing.T, tree string) (int, []string) {
		return python(t, "f = os.open(path, os.O_RDONLY)", tree+"/files/lib/x.so"), []string{"fd files/lib/x.so"}
	},
	"posix lock": func(t *testing.T, tree string) (int, []string) {
		return python(t, posix, tree+"/files/.ref"), []string{"lock files/.ref"}
	},
	"description lock": func(t *testing.T, tree string) (int, []string) {
		return python(t, ofd, tree+"/files/.ref"), []string{"lock files/.ref"}
	},
	"lock deeper in": func(t *testing.T, tree string) (int, []string) {
		return python(t, ofd, tree+"/files/app/deep/.ref"), []string{"lock files/app/deep/.ref"}
	},
	"bare descriptor": func(t *testing.T, tree string) (int, []string) {
		return python(t, "f = open(path)\ng = open(path[:-4] + 'lib/x.so')", tree+"/files/.ref"), []string{"fd files/.ref", "fd files/lib/x.so"}
	},
	"flock is no lock": func(t *testing.T, tree string) (int, []string) {
		return python(t, "f = open(path)\nfcntl.flock(f, fcntl.LOCK_SH)", tree+"/files/.ref"), []string{"fd files/.ref"}
	},
	"deleted": func(t *testing.T, tree string) (int, []string) {
		must(t, os.WriteFile(tree+"/files/lib/gone", make([]byte, 4096), 0o644))
		return python(t, mapIt+"\ng = open(path)\nos.unlink(path)", tree+"/files/lib/gone"), []string{"map files/lib/gone", "fd files/lib/gone"}
	},
	"replaced": func(t *testing.T, tree string) (int, []string) {
		must(t, os.WriteFile(tree+"/files/lib/old", make([]byte, 4096), 0o644))
		must(t, os.WriteFile(tree+"/files/lib/new", nil, 0o644))
		return python(t, mapIt+"\nos.rename(path[:-3] + 'new', path)", tree+"/files/lib/old"), []string{"map files/lib/old"}
	},
	"odd name": func(t *testing.T, tree string) (int, []string) {
		const name = "files/a b\n\tc\\012 (deleted)"
		must(t, os.WriteFile(tree+"/"+name, make([]byte, 4096), 0o644))
		return python(t, "g = open(path)", tree+"/"+name), []string{"fd " + name}
	},
	"newline mapped": func(t *testing.T, tree string) (int, []string) {
		const name = "files/a b\nc (deleted)"
		must(t, os.WriteFile(tree+"/"+name, make([]byte, 4096), 0o644))
		return python(t, mapIt, tree+"/"+name), []string{"map " + name}
	},
	"backslash mapped": func(t *testing.T, tree string) (int, []string) {
		const name = `files/a\012c`
		must(t, os.WriteFile(tree+"/"+name, make([]byte, 4096), 0o644))
		return python(t, mapIt, tree+"/"+name), []string{"map " + name}
	},
	"bwrap": func(t *testing.T, tree string) (int, []string) {
		startReady(t, exec.Command("bwrap", "--ro-bind", tree+"/files", "/usr", "--proc", "/proc", "--dev", "/dev",
			"/usr/bin/busybox", "sh", "-c", "echo ready; exec /usr/bin/busybox sleep 1000"))
		return 0, []string{"mount files", "exe files/bin/busybox", "map files/bin/busybox"}
	},
	"bwrap with the tree as root": func(t *testing.T, tree string) (int, []string) {
		startReady(t, exec.Command("bwrap", "--bind", tree+"/files", "/",
			"/bin/busybox", "sh", "-c", "echo ready; exec /bin/busybox sleep 1000"))
		return 0, []string{"mount files", "root files", "cwd files", "exe files/bin/busybox", "map files/bin/busybox"}
	},
	"bwrap with a lock": func(t *testing.T, tree string) (int, []string) {
		startReady(t, exec.Command("bwrap", "--ro-bind", "/", "/", "--ro-bind", tree+"/files", "/mnt", "--proc", "/proc", "--dev", "/dev",
			"--lock-file", "/mnt/.ref", "sh", "-c", "echo ready; exec sleep 1000"))
		return 0, []string{"lock files/.ref", "mount files"}
	},
	"user namespace": func(t *testing.T, tree string) (int, []string) {
		return startReady(t, exec.Command("unshare", "-Urm", "sh", "-c",
			`mount --bind "$0/files" /mnt && cd /mnt/lib && echo ready && exec sleep 1000`, tree)), []string{"mount files", "cwd files/lib"}
	},
	"chroot in a namespace": func(t *testing.T, tree string) (int, []string) {
		return startReady(t, exec.Command("unshare", "-m", "chroot", tree+"/files", "/bin/busybox", "sh", "-c",
			"echo ready; exec /bin/busybox sleep 1000")), []string{"root files", "cwd files", "exe files/bin/busybox", "map files/bin/busybox"}
	},
	"unmounted": func(t *testing.T, tree string) (int, []string) {
		return startReady(t, exec.Command("unshare", "-m", "sh", "-c",
			`mount --bind "$0/files" /mnt && cd /mnt/lib && umount -l /mnt && echo ready && exec sleep 1000`, tree)), []string{"cwd files/lib"}
	},
	"in the root of what was unmounted": func(t *testing.T, tree string) (int, []string) {
		must(t, os.Mkdir(tree+"-aside", 0o755))
		return python(t, mountAside+"os.chdir(aside)\n"+unmountAside, tree+"/files", tree+"-aside"), []string{"cwd files"}
	},
	"a mount that is nowhere": func(t *testing.T, tree string) (int, []string) {
		return python(t, "libc = ctypes.CDLL(None)\nassert libc.syscall(428, -100, path.encode(), 1) >= 0 # open_tree(2)", tree+"/files"), []string{"fd files"}
	},
	"hidden by a mount of its own": func(t *testing.T, tree string) (int, []string) {
		return startReady(t, exec.Command("unshare", "-m", "sh", "-c",
			`cd "$0/files/lib" && mount -t tmpfs none "$0" && echo ready && exec sleep 1000`, tree)), []string{"cwd files/lib", "mount ."}
	},
}

// TestLook uses trees on all file systems in all ways. Its twin has the same
// files and is not in use.
func TestLook(t *testing.T) {
	for name, make := range fileSystems {
		t.Run(name, func(t *testing.T) {
			dir := make(t)
			type used struct {
				name string
				pid  int
				want []string
			}
			var trees []store.Tree
			var uses []used
			for name, begin := range ways {
				path := dir + "/" + strings.ReplaceAll(name, " ", "-")
				tree := newTree(t, path)
				twin := newTwin(t, path, path+"-twin")
				pid, want := begin(t, path)
				trees = append(trees, tree, twin)
				uses = append(uses, used{name, pid, want})
			}
			sight := look(t, trees...)
			for i, u := range uses {
				t.Run(u.name, func(t *testing.T) {
					expect(t, sight.Uses[2*i], u.pid, u.want...)
					expect(t, sight.Uses[2*i], 0, u.want...)
					expect(t, sight.Uses[2*i+1], 0)
				})
			}
		})
	}
}

func TestUse(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	before := time.Now()
	must(t, os.Rename(dir+"/tree/files/bin/sleep", dir+"/tree/files/bin/a) R (b"))
	cmd := exec.Command(dir+"/tree/files/bin/a) R (b", "1000")
	cmd.Args[0] = "sleep"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	pid := start(t, cmd)
	uses := look(t, tree).Uses[0]
	if len(uses) != 2 {
		t.Fatalf("got %v, want 2 uses", uses)
	}
	u := uses[0]
	if u.PID != pid || u.Account != "54321" || u.Command != "a) R (b" || u.How != store.ByExe || uses[1].How != store.ByMap {
		t.Errorf("got %+v", u)
	}
	if d := u.Since.Sub(before).Abs(); d > 2*time.Second {
		t.Errorf("since %v, want about %v", u.Since, before)
	}
}

func TestInheritedLock(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	pid := python(t, ofd+"\nos.set_inheritable(f, True)\nchild = os.posix_spawn('/bin/sleep', ['sleep', '1000'], {})", dir+"/tree/files/.ref")
	uses := look(t, tree).Uses[0]
	if len(uses) != 2 || uses[0].PID != pid || uses[0].How != store.ByLock || uses[1].How != store.ByLock || uses[1].Command != "sleep" {
		t.Errorf("got %+v, want a lock of the parent and of its child", uses)
	}
}

// What we do ourselves is no evidence, but a mount in our namespace is: it is
// told once.
func TestOurselves(t *testing.T) {
	dir := scratch(t)
	tree, mounted := newTree(t, dir+"/tree"), newTree(t, dir+"/mounted")
	f, err := os.Open(dir + "/tree/files/lib/x.so")
	must(t, err)
	defer f.Close()
	mountAt(t, dir+"/m", "--bind", dir+"/mounted/files/lib")
	sight := look(t, tree, mounted)
	expect(t, sight.Uses[0], 0)
	if uses := sight.Uses[1]; len(uses) != 1 || uses[0].How != store.ByMount || uses[0].Path != "files/lib" || uses[0].Command == "" {
		t.Errorf("got %+v, want one mount", uses)
	}
}

// A zombie whose other threads go on is no zombie.
func TestFirstThreadEnded(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	pid := python(t, "f = open(path)\nimport threading\n"+
		"threading.Thread(target=lambda: (time.sleep(.3), print('ready', flush=True), time.sleep(1000))).start()\n"+
		"ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)", dir+"/tree/files/lib/x.so")
	expect(t, look(t, tree).Uses[0], pid, "fd files/lib/x.so")
}

func TestOverlayOnTree(t *testing.T) {
	dir := mountAt(t, scratch(t)+"/m", "-t", "tmpfs", "tmpfs")
	tree := newTree(t, dir+"/tree:1,2")
	for _, d := range []string{"/upper", "/work", "/merged"} {
		must(t, os.Mkdir(dir+d, 0o755))
	}
	mountAt(t, dir+"/merged", "-t", "overlay", "-o",
		"lowerdir="+strings.NewReplacer(":", `\:`, ",", `\,`).Replace(tree.Path)+"/files,upperdir="+dir+"/upper,workdir="+dir+"/work", "overlay")
	expect(t, look(t, tree).Uses[0], 0, "mount files")
}

func TestRefDirectoryCounts(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	must(t, os.Mkdir(dir+"/tree/files/lib/.ref", 0o755))
	python(t, "f = os.open(path, os.O_RDONLY)", dir+"/tree/files/lib/.ref")
	uses := look(t, tree).Uses[0]
	if len(uses) != 1 || !uses[0].Counts() {
		t.Errorf("got %+v, want a use that counts", uses)
	}
}

func TestTwiceAndNested(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	again := openTree(t, dir+"/tree")
	inner := openTree(t, dir+"/tree/files")
	pid := python(t, "f = open(path)", dir+"/tree/files/lib/x.so")
	sight := look(t, tree, again, inner)
	expect(t, sight.Uses[0], pid, "fd files/lib/x.so")
	expect(t, sight.Uses[1], pid, "fd files/lib/x.so")
	expect(t, sight.Uses[2], pid, "fd lib/x.so")
}

func TestRenamedTree(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	startReady(t, exec.Command("bwrap", "--ro-bind", "/", "/", "--ro-bind", dir+"/tree/files", "/mnt", "sh", "-c", "echo ready; exec sleep 1000"))
	pid := python(t, mapIt, dir+"/tree/files/lib/x.so")
	must(t, os.Rename(dir+"/tree", dir+"/trash"))
	sight := look(t, tree)
	expect(t, sight.Uses[0], pid, "map files/lib/x.so")
	expect(t, sight.Uses[0], 0, "map files/lib/x.so", "mount files")
}

// What we have mounted over a part of the tree hides the file that would
// confirm a use, and does not make it less of one.
func TestHiddenFromUs(t *testing.T) {
	dir := scratch(t)
	absent, different := newTree(t, dir+"/absent"), newTree(t, dir+"/different")
	for _, tree := range []store.Tree{absent, different} {
		python(t, "f = open(path)", tree.Path+"/files/app/deep/.ref")
		python(t, "f = open(path)", tree.Path+"/files/lib/x.so")
	}
	mountAt(t, absent.Path+"/files/lib", "-t", "tmpfs", "none")
	mountAt(t, different.Path+"/files/lib", "-t", "tmpfs", "none")
	must(t, os.WriteFile(different.Path+"/files/lib/x.so", nil, 0o644))
	sight := look(t, absent, different)
	for _, uses := range sight.Uses {
		expect(t, uses, 0, "fd files/app/deep/.ref", "fd files/lib/x.so")
	}
}

// A descriptor of a third namespace's mount: it is spelled as there.
func TestForeignDescriptor(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	startReady(t, exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$0/files" /mnt && exec 3</mnt/lib/x.so || exit
		unshare -m sh -c 'umount /mnt && echo ready && exec sleep 1000' & exec 3<&-; wait`, tree.Path))
	// The shell says that it is ready before it becomes sleep.
	var sleeper int
	var uses []store.Use
	for deadline := time.Now().Add(10 * time.Second); sleeper == 0 && time.Now().Before(deadline); {
		uses = look(t, tree).Uses[0]
		for _, u := range uses {
			if u.Command == "sleep" {
				sleeper = u.PID
			}
		}
	}
	expect(t, uses, sleeper, "fd files/lib/x.so")
	expect(t, uses, 0, "fd files/lib/x.so", "mount files")
}

// Of a mapped file maps does not tell the mount. If that is gone, or of a
// namespace that the process has left, the file is found in the tree.
func TestMappedThroughLostMount(t *testing.T) {
	mapAside := strings.Replace(mapIt, "path", "aside + sys.argv[3]", 1) + "\n"
	for name, c := range map[string]struct{ script, mount, file string }{
		"unmounted":         {mountAside + mapAside + unmountAside, "/files", "/lib/x.so"},
		"unmounted, deeper": {mountAside + mapAside + unmountAside, "/files/lib", "/x.so"},
		"left":              {"libc = ctypes.CDLL(None)\n" + leave + mountAside + mapAside + leave + unmountAside, "/files", "/lib/x.so"},
		"left, deeper":      {"libc = ctypes.CDLL(None)\n" + leave + mountAside + mapAside + leave + unmountAside, "/files/lib", "/x.so"},
	} {
		for _, account := range []string{"root", "nobody"} {
			t.Run(name+" by "+account, func(t *testing.T) {
				dir := scratch(t)
				tree := newTree(t, dir+"/tree")
				must(t, os.Mkdir(dir+"/aside", 0o755))
				cmd, see := pythonCmd(c.script, tree.Path+c.mount, dir+"/aside", c.file), look
				if account == "nobody" {
					cmd.Args = append([]string{"unshare", "-Urm"}, cmd.Args...)
					cmd.Path, cmd.SysProcAttr, see = "/usr/bin/unshare", nobody(), lookAsNobody
				}
				pid := startReady(t, cmd)
				expect(t, see(t, tree).Uses[0], pid, "map files/lib/x.so")
			})
		}
	}
}

// A tree that is renamed under the pass is not lost.
func TestRenamedMeanwhile(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/0")
	python(t, mapIt, dir+"/0/files/lib/x.so")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(i%60) * time.Millisecond):
			}
			os.Rename(dir+"/"+strconv.Itoa(i), dir+"/"+strconv.Itoa(i+1))
		}
	}()
	defer func() { close(stop); <-done }()
	seen := 0
	for range 60 {
		sight, err := occupancy.New().Look(t.Context(), []store.Tree{tree})
		if err != nil {
			continue // it moved all the time
		}
		seen++
		expect(t, sight.Uses[0], 0, "map files/lib/x.so")
	}
	if seen == 0 {
		t.Error("never got an answer")
	}
}

func TestEnded(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	// Not by this process, whose children have its descriptors for a moment.
	startReady(t, exec.Command("/bin/sh", "-c", "echo ready; while :; do /bin/true; done"))
	blind := 0
	for range 50 {
		sight := look(t, tree)
		expect(t, sight.Uses[0], 0)
		if blindTo(t, sight) != "" {
			blind++
		}
	}
	if blind > 10 {
		t.Errorf("blind in %d of 50 looks", blind)
	}
}

func TestErrors(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	for _, root := range []string{dir, dir + "/none"} {
		if _, err := (&occupancy.Proc{Root: root}).Look(t.Context(), []store.Tree{tree}); err == nil {
			t.Errorf("with %s for /proc: no error", root)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := occupancy.New().Look(ctx, []store.Tree{tree}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	tree.Dir.Close()
	if _, err := occupancy.New().Look(t.Context(), []store.Tree{tree}); err == nil {
		t.Error("with a closed tree: no error")
	}
}

func BenchmarkLook(b *testing.B) {
	dir := b.TempDir()
	var trees []store.Tree
	for i := range 1000 {
		path := dir + "/" + strconv.Itoa(i)
		if err := os.Mkdir(path, 0o755); err != nil {
			b.Fatal(err)
		}
		f, err := openDir(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		trees = append(trees, store.Tree{Dir: f, Path: path})
	}
	for range 500 {
		cmd := exec.Command("/bin/sleep", "1000")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
	}
	for b.Loop() {
		if _, err := occupancy.New().Look(b.Context(), trees); err != nil {
			b.Fatal(err)
		}
	}
}

// A process that forks and ends, and whose child does the same, and so on, is
// seen or the look fails: there is no moment at which nobody uses the tree.
func TestHandedOn(t *testing.T) {
	tree := newTree(t, scratch(t)+"/tree")
	cmd := pythonCmd("os.chdir(path)\nprint('ready', flush=True)\nwhile True:\n    if os.fork():\n        os._exit(0)", tree.Path+"/files/lib")
	group := startReady(t, cmd)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			// Those that have ended are our children by now.
			for pid, _ := syscall.Wait4(-group, nil, syscall.WNOHANG, nil); pid > 0; {
				pid, _ = syscall.Wait4(-group, nil, syscall.WNOHANG, nil)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	seen, failed := 0, 0
	for range 15 {
		sight, err := occupancy.New().Look(t.Context(), []store.Tree{tree})
		switch {
		case err != nil:
			failed++
		case len(sight.Uses[0]) > 0:
			seen++
		default:
			t.Error("nobody is seen")
		}
	}
	t.Logf("seen %d times, %d looks failed", seen, failed)
}
