package test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Killed between the rename of the version and that of the link: a second run
// finishes the work.
func TestASecondInstallActivatesTheFirstVersion(t *testing.T) {
	w := newWorld(t)
	w.install("1")
	for _, name := range []string{"current", "1/activated"} {
		if err := os.Remove(filepath.Join(w.store, "runtimes/demo", name)); err != nil {
			t.Fatal(err)
		}
	}
	w.must(0, "install", w.smallArchive("1"))
	w.must(0, "exec", "demo", "true")
}

func TestASecondUpgradeFinishesTheSwitch(t *testing.T) {
	w := newWorld(t)
	var sums string
	for _, version := range []string{"1", "2"} {
		content, err := os.ReadFile(w.smallArchive(version))
		if err != nil {
			t.Fatal(err)
		}
		name := "demo-" + version + ".tar.zst"
		w.write("channel/"+name, string(content))
		sums += fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name)
	}
	w.write("channel/SHA256SUMS", sums)
	w.write("config.toml", "[gc]\nkeep = 5\n[runtime.demo]\nsource = \""+w.path("channel")+"\"\n")
	w.must(0, "install", w.path("channel/demo-1.tar.zst"))
	w.must(0, "upgrade", "demo")
	// As killed after the time of activation was set and before the link was.
	link := filepath.Join(w.store, "runtimes/demo/current")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("1", link); err != nil {
		t.Fatal(err)
	}
	w.must(0, "upgrade", "demo")
	if to, err := os.Readlink(link); err != nil || to != "2" {
		t.Errorf("current is %q (%v), want 2", to, err)
	}
	// What was rolled back from stays so.
	w.must(0, "rollback", "demo")
	if r := w.must(0, "upgrade", "demo"); !strings.Contains(r.stderr, "switched away from") {
		t.Errorf("upgrade after a rollback: %q", r.stderr)
	}
}
