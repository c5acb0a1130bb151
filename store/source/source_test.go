package source_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"berth/store/source"
	"berth/store/source/sourcetest"
)

func TestDirectoryConforms(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, files map[string][]byte) source.Channel {
		dir := t.TempDir()
		if files == nil {
			return source.Directory(filepath.Join(dir, "none"))
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return source.Directory(dir)
	})
}

func TestSplitName(t *testing.T) {
	for base, want := range map[string][2]string{
		"sniper-0.20191024.0.tar.gz":      {"sniper", "0.20191024.0"},
		"GE-Proton9-20.tar.gz":            {"GE-Proton9", "20"},
		"UMU-Proton-10.0-4.tar.gz":        {"UMU-Proton", "10.0-4"},
		"wine-9.22-amd64-wow64.tar.xz":    {"wine", "9.22-amd64-wow64"},
		"OpenJDK-jdk-22.0.1+1.tgz":        {"OpenJDK-jdk", "22.0.1+1"},
		"a-1.tar":                         {"a", "1"},
		"a-1.tzst":                        {"a", "1"},
		"debian-root-12.0.tar.zst":        {"debian-root", "12.0"},
		"org.example.Platform-23.tar.bz2": {"org.example.Platform", "23"},
		"com.valvesoftware.SteamRuntime.Platform-amd64,i386-sniper-runtime.tar.gz": {},
		"a.tar": {}, "-1.tar": {}, "a-.tar": {}, "a-1.zip": {}, "a-1": {}, "": {}, ".tar": {},
	} {
		name, version, ok := source.SplitName(base)
		if name != want[0] || version != want[1] || ok != (want[0] != "") {
			t.Errorf("%q: %q, %q, %v", base, name, version, ok)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "demo-1.0.tar.gz")
	if err := os.WriteFile(archive, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := source.File(archive)
	if err != nil || a.Name != "demo" || a.Version != "1.0" || a.Size != 1 || a.Origin != archive || a.Directory != "" {
		t.Errorf("%+v, %v", a, err)
	}
	r, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(r); err != nil || string(content) != "x" {
		t.Errorf("%q, %v", content, err)
	}
	r.Close()
	tree := filepath.Join(dir, "tree-2.0")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	a, err = source.File(tree)
	if err != nil || a.Directory != tree || a.Name != "tree" || a.Version != "2.0" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := source.File(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := a.Open(t.Context()); err == nil {
		t.Error("opened a directory")
	}
	a, err = source.File(archive)
	if err != nil || os.Remove(archive) != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened what is gone: %v", err)
	}
}

func TestIsArchive(t *testing.T) {
	for base, want := range map[string]bool{"x.tar": true, "x.tar.zst": true, "sniper": false, "x.tar.lz": false, ".tar": false} {
		if source.IsArchive(base) != want {
			t.Errorf("%q: %v", base, !want)
		}
	}
}
