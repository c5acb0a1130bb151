package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"berth/store"
)

// A mount on a file does not show in the directory, and stops a deletion half
// way.
func TestATreeWithAMountStaysListedAndWhole(t *testing.T) {
	s := create(t, filepath.Join(t.TempDir(), "the store"))
	install(t, s, "demo@1", "demo@2")
	must(t, s.Switch(t.Context(), parse(t, "demo@2")))
	precious := filepath.Join(t.TempDir(), "letter")
	must(t, os.WriteFile(precious, nil, 0o644))
	at := filepath.Join(s.Path(), "runtimes/demo/1/files/bin/tool")
	must(t, unix.Mount(precious, at, "", unix.MS_BIND, ""))
	err := collect(t, s, "demo@1", store.CollectOptions{})
	trash, _ := filepath.Glob(s.Path() + "/trash/*/files/bin/tool")
	for _, p := range append(trash, at) {
		unix.Unmount(p, unix.MNT_DETACH)
	}
	if err == nil {
		t.Error("collected")
	}
	wantVersions(t, s, "demo@1", "demo@2")
	if _, found, err := s.Verify(t.Context(), parse(t, "demo@1"), nil); err != nil || len(found) > 0 {
		t.Errorf("not whole: %v (%v)", found, err)
	}
}
