package occupancy_test

import (
	"os"
	"os/exec"
	"testing"
)

// A layer of an overlay is found however it was spelled, also when the link
// that led to it leads elsewhere by now.
func TestLayers(t *testing.T) {
	for name, c := range map[string]struct {
		mount string
		want  []string
	}{
		"as it is":        {`lower=$0/demo/1.0/files/lib`, []string{"mount files/lib"}},
		"by a symlink":    {`ln -s demo/1.0 $0/link; lower=$0/link/files`, []string{"mount files"}},
		"by current":      {`ln -s 1.0 $0/demo/current; lower=$0/demo/current/files`, []string{"mount files"}},
		"relative":        {`cd $0/demo; lower=1.0/files`, []string{"mount files"}},
		"more relative":   {`cd $0; lower=demo/1.0/files`, []string{"mount files"}},
		"in a new root":   {`mount --bind / $0/root; root=$0/root lower=$0/root$0/demo/1.0/files`, []string{"mount files"}},
		"of another tree": {`mkdir $0/demo/2.0; lower=$0/demo/2.0`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			must(t, os.Mkdir(dir+"/demo", 0o755))
			tree := newTree(t, dir+"/demo/1.0")
			tree.Names = []string{"demo/1.0", "demo/current"}
			script := `set -e; mkdir $0/m $0/other $0/root; root=; ` + c.mount + `
mount -t overlay -o lowerdir=$lower:$0/other none $0/m
rm -f $0/demo/current; ln -s 2.0 $0/demo/current
[ -z "$root" ] || { umount -l $root; }
echo ready; exec sleep 1000`
			startReady(t, exec.Command("unshare", "-m", "sh", "-c", script, dir))
			expect(t, look(t, tree).Uses[0], 0, c.want...)
			// In the trash it is still known by its name.
			must(t, os.Rename(tree.Path, dir+"/trash"))
			if uses := look(t, tree).Uses[0]; c.want != nil && name != "by a symlink" && len(uses) == 0 {
				t.Error("nobody is seen when it was renamed")
			}
		})
	}
}

// What is mounted on a directory of the tree, elsewhere, would be torn away
// with it.
func TestMountedInATree(t *testing.T) {
	dir := scratch(t)
	tree := newTree(t, dir+"/tree")
	twin := newTwin(t, dir+"/tree", dir+"/twin")
	startReady(t, exec.Command("unshare", "-m", "sh", "-c", `mount -t tmpfs none "$0/files/app" && echo ready && exec sleep 1000`, tree.Path))
	sight := look(t, tree, twin)
	expect(t, sight.Uses[0], 0, "mount files/app")
	expect(t, sight.Uses[1], 0)
}
