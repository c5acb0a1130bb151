package occupancy_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What is used through a mount that nobody shows any more, or has a path that
// is too long to be shown, is found in the tree by its inode.
func TestLost(t *testing.T) {
	const libc = "libc = ctypes.CDLL(None)\n"
	for name, c := range map[string]struct {
		script string
		mount  string
		want   []string
	}{
		"directory of what was unmounted": {mountAside + "os.chdir(aside)\n" + unmountAside, "/files/lib", []string{"cwd files/lib"}},
		"a mount that was never anywhere": {libc + "os.fchdir(libc.syscall(428, -100, path.encode(), 1)) # open_tree(2)", "/files/lib", []string{"cwd files/lib", "fd files/lib"}},
		"a namespace that was left twice": {
			libc + leave + "f = os.open(path + '/x.so', os.O_RDONLY)\nos.chdir(path)\n" + leave +
				"assert libc.umount2(path[:-len('/tree/files/lib')].encode(), 2) == 0\n",
			"/files/lib", []string{"fd files/lib/x.so", "cwd files/lib"},
		},
		"a path of more than a page": {
			"os.chdir(path)\nfor i in range(18):\n    os.mkdir('d' * 250)\n    os.chdir('d' * 250)\n",
			"/files/lib", []string{"cwd files/lib" + strings.Repeat("/"+strings.Repeat("d", 250), 18)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			must(t, os.Mkdir(dir+"/aside", 0o755))
			if strings.Contains(name, "twice") {
				mountAt(t, dir, "--bind", dir)
			}
			tree := newTree(t, dir+"/tree")
			pid := python(t, c.script, tree.Path+c.mount, dir+"/aside")
			sight := look(t, tree)
			expect(t, sight.Uses[0], pid, c.want...)
			if blind := blindTo(t, sight); strings.Contains(blind, "mounts") {
				t.Errorf("blind to %s", blind)
			}
		})
	}
}

// The file system was unmounted under a program and mounted again.
func TestMountedAgain(t *testing.T) {
	dir := fileSystems["ext4"](t)
	newTree(t, dir+"/tree")
	cmd := exec.Command(dir+"/tree/files/bin/busybox", "sleep", "1000")
	cmd.Dir = dir + "/tree/files/app"
	pid := start(t, cmd)
	device, err := exec.Command("findmnt", "-no", "SOURCE", dir).Output()
	must(t, err)
	run(t, "umount", "-l", dir)
	run(t, "mount", strings.TrimSpace(string(device)), dir)
	expect(t, look(t, openTree(t, dir+"/tree")).Uses[0], pid,
		"exe files/bin/busybox", "map files/bin/busybox", "cwd files/app")
}

// What a process has open is spelled as if it were on a FUSE file system, which
// was mounted over the tree and answers nobody.
func TestBelowWhatDoesNotAnswer(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	pid := python(t, "libc = ctypes.CDLL(None)\n"+leave+`f = os.open(path + '/x.so', os.O_RDONLY)
os.chdir(path)
fuse = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fuse},rootmode=40000,user_id=0,group_id=0,subtype=sshfs'
assert libc.mount(b'sshfs', sys.argv[2].encode(), b'fuse', 0, options.encode()) == 0`, tree.Path+"/files/lib", dir)
	expect(t, look(t, tree).Uses[0], pid, "fd files/lib/x.so", "cwd files/lib")
}
