package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/store"
)

// What another account could change is found wherever it is, down to the files/
// of each deployment, and nothing is said of what it could not.
func TestExamineFindsWhatOthersCanChange(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	const account = 65534
	for _, name := range []string{
		"runtimes", "staging", "trash", "runtimes/demo", "runtimes/demo/1.0", "runtimes/demo/2.0/files",
	} {
		at := filepath.Join(s.Path(), name)
		for _, mode := range []os.FileMode{0o775, 0o757, os.ModeSticky | 0o777} {
			if err := os.Chmod(at, mode); err != nil {
				t.Fatal(err)
			}
			wantBad(t, s, at, "can be changed by other accounts")
		}
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(at, account, account); err != nil {
			t.Fatalf("needs root: %v", err)
		}
		wantBad(t, s, at, "belongs to another account (65534)")
		if err := os.Chown(at, 0, 0); err != nil {
			t.Fatal(err)
		}
		wantBad(t, s, at, "")
	}
	at := filepath.Join(s.Path(), "lock")
	if err := os.Chmod(at, 0o644); err != nil {
		t.Fatal(err)
	}
	wantBad(t, s, at, "can be locked for ever")
}

// wantBad wants one finding about a path, or none at all.
func wantBad(t *testing.T, s *store.Store, path, want string) {
	t.Helper()
	found, err := s.Examine(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, f := range found {
		if f.Bad && strings.HasPrefix(f.What, `"`+path+`"`) {
			texts = append(texts, f.What)
		}
	}
	if want == "" && len(texts) > 0 || want != "" && (len(texts) != 1 || !strings.Contains(texts[0], want)) {
		t.Errorf("%s: found %q, want %q", path, texts, want)
	}
}
