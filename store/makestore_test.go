package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Between the look at the store's path and the making of a store there, somebody
// can have put something else in its place, or a symlink to it. It stays as it
// is.
func TestAStoreIsMadeOfNothingElse(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(foreign, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{foreign, link} {
		if err := makeStore(t.Context(), path); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v, want ErrForeign", path, err)
		}
		list, err := os.ReadDir(foreign)
		if err != nil || len(list) != 1 {
			t.Errorf("it holds %v (%v)", list, err)
		}
		if st, err := os.Stat(foreign); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", st, err)
		}
	}
}
