package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What somebody has put into the trash stands in the way of no look.
func TestWhatIsNoTreeInTheTrashIsLeftOut(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1")
	trash := filepath.Join(s.Path(), "trash")
	must(t, os.WriteFile(filepath.Join(trash, ".directory"), nil, 0o644))
	must(t, os.Symlink("/etc", filepath.Join(trash, "link")))
	must(t, unix.Mkfifo(filepath.Join(trash, "fifo"), 0o644))
	if found, _, err := s.Trash(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("in the trash: %v (%v)", found, err)
	}
	findings, err := s.Examine(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, f := range findings {
		if f.Bad && strings.Contains(f.What, trash) {
			named++
		}
	}
	if named != 3 {
		t.Errorf("named are %d of 3 in %v", named, findings)
	}
}
