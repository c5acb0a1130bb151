package store_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"berth/store"
)

// A process that has the deployment's own directory open, which alone keeps
// nothing, and a file of it as well.
func TestAFileOpenBesideTheTreesDirectoryIsAUse(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1", "demo@2")
	must(t, s.Switch(t.Context(), parse(t, "demo@2")))
	tree := filepath.Join(s.Path(), "runtimes/demo/1")
	child := exec.Command("sleep", "60")
	for _, p := range []string{tree, filepath.Join(tree, "files/bin/tool")} {
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		child.ExtraFiles = append(child.ExtraFiles, f)
	}
	must(t, child.Start())
	defer child.Wait()
	defer child.Process.Kill()
	if err := collect(t, s, "demo@1", store.CollectOptions{}); err == nil {
		t.Error("what a process has open was deleted")
	}
	wantVersions(t, s, "demo@1", "demo@2")
}
