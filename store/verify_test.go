package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/store"
)

func TestVerifyFindsEveryKindOfDifference(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0")
	files := filepath.Join(s.Path(), "runtimes/demo/1.0/files")
	stamp := time.Unix(1600000000, 0)
	must(t, os.WriteFile(files+"/extra", nil, 0o644))
	must(t, os.Remove(files+"/lib"))
	must(t, os.Symlink("elsewhere", files+"/lib"))
	must(t, os.Remove(files+"/bin/same"))
	must(t, os.WriteFile(files+"/bin/same", []byte("TOOL of demo@1.0"), 0o755))
	must(t, os.Chtimes(files+"/bin/same", stamp, stamp))
	must(t, os.Chmod(files+"/bin/tool", 0o700))
	must(t, os.Remove(files+"/.ref"))
	must(t, os.Mkdir(files+"/.ref", 0o755))
	_, err := store.Open(s.Path(), store.Options{})
	must(t, err)
	if _, _, err := s.Verify(t.Context(), store.Ref{Name: "demo"}, nil); !errors.Is(err, store.ErrBroken) {
		t.Errorf("without a lock file: %v", err)
	}
	must(t, os.Remove(files+"/.ref"))
	must(t, os.WriteFile(files+"/.ref", []byte("x"), 0o644))
	_, found, err := s.Verify(t.Context(), store.Ref{Name: "demo"}, nil)
	must(t, err)
	var got []string
	for _, d := range found {
		got = append(got, fmt.Sprintf("%s %s", d.Path, d.What))
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{
		"extra extra", `lib changed: target is "elsewhere", not "bin"`, "bin/same changed: content",
		`bin/tool changed: no longer a hard link of "bin/same"`, "bin/tool changed: mode is 0700, not 0755", ".ref changed: size is 1, not 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	must(t, os.Remove(files+"/lib"))
	_, found, err = s.Verify(t.Context(), store.Ref{Name: "demo"}, nil)
	if err != nil || !slices.Contains(found, store.Difference{Path: "lib", What: "missing"}) {
		t.Errorf("%v, %v", found, err)
	}
}

func TestListSurvivesBrokenDeployments(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	must(t, os.Remove(filepath.Join(s.Path(), "runtimes/demo/2.0/deployment.toml")))
	must(t, os.WriteFile(filepath.Join(s.Path(), "runtimes/demo/3.0/deployment.toml"), []byte("no toml"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.Path(), "runtimes/demo/note"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(s.Path(), "runtimes/bad name"), 0o755))
	list, err := s.List("")
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	for i, broken := range []bool{false, true, true} {
		if errors.Is(list[i].Err, store.ErrBroken) != broken {
			t.Errorf("%s: %v", list[i].Ref, list[i].Err)
		}
	}
	if _, err := s.List("../demo"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
