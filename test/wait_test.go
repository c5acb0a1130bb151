package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Who has .ref open and does not lock it is seen only when the version is in
// the trash. Waiting for him goes on there.
func TestRemoveWaitsForWhatIsInTheTrash(t *testing.T) {
	for _, want := range []struct {
		seconds, wait string
		left          int
	}{{"5", "30s", 0}, {"30", "1s", 1}} {
		w := newWorld(t)
		w.install("1", "2")
		w.must(0, "switch", "demo@2")
		ref, err := os.Open(filepath.Join(w.files("demo@1"), ".ref"))
		if err != nil {
			t.Fatal(err)
		}
		user := exec.Command("sleep", want.seconds)
		user.Stdin = ref
		if err := user.Start(); err != nil {
			t.Fatal(err)
		}
		ref.Close()
		w.must(0, "remove", "--wait", want.wait, "demo@1")
		if left, err := os.ReadDir(filepath.Join(w.store, "trash")); err != nil || len(left) != want.left {
			t.Errorf("a wait of %s for %s s: in the trash %v (%v), want %d", want.wait, want.seconds, left, err, want.left)
		}
		user.Process.Kill()
		user.Wait()
	}
}
