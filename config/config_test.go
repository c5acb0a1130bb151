package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryKey(t *testing.T) {
	c, err := LoadFile(write(t, `
[gc]
keep = 3
keep-newer = "2w"
grace = "90m"
max-size = "20GiB"
min-free = 1024
require-complete-evidence = true
[store]
max-unpacked = "1TB"
[runtime.sniper]
source = "/srv/runtimes"
keep = 0
keep-newer = "1d"
grace = "0s"
[runtime."org.freedesktop.Platform"]
source = "/x"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{Keep: 3, KeepNewer: 14 * day, Grace: 90 * time.Minute, MaxSize: 20 << 30, MinFree: 1024, RequireCompleteEvidence: true}
	if c.GC != want || c.Store.MaxUnpacked != 1e12 {
		t.Errorf("%+v", c)
	}
	if c.Runtimes["sniper"].Source != "/srv/runtimes" || c.Runtimes["org.freedesktop.Platform"].Source != "/x" {
		t.Errorf("%+v", c.Runtimes)
	}
	want.Keep, want.KeepNewer, want.Grace = 0, day, 0
	if got := c.PolicyFor("sniper"); got != want {
		t.Errorf("the runtime's own policy: %+v", got)
	}
	if got := c.PolicyFor("org.freedesktop.Platform"); got != c.GC {
		t.Errorf("a runtime without a policy of its own: %+v", got)
	}
}

func TestLaterFilesOverrideKeyByKey(t *testing.T) {
	first := write(t, "[gc]\nkeep = 5\ngrace = \"2h\"\n[runtime.a]\nsource = \"/one\"\nkeep = 1\n")
	second := write(t, "[gc]\nkeep = 6\n[runtime.a]\nsource = \"/two\"\n")
	c, err := Load(first, filepath.Join(t.TempDir(), "none"), second)
	if err != nil {
		t.Fatal(err)
	}
	if c.GC.Keep != 6 || c.GC.Grace != 2*time.Hour || c.Runtimes["a"].Source != "/two" || c.PolicyFor("a").Keep != 1 {
		t.Errorf("%+v", c)
	}
	c, err = Load()
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Errorf("without files: %+v, %v", c, err)
	}
	if _, err := LoadFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that was named and is not there: %v", err)
	}
}

func TestErrorsNameFileAndKey(t *testing.T) {
	for text, want := range map[string][]string{
		"[gc]\nkep = 1\n":                       {"gc.kep: unknown key (did you mean gc.keep?)"},
		"[gc]\nkeep-never = \"1d\"\n":           {"gc.keep-never", "gc.keep-newer"},
		"[stroe]\nmax-unpacked = 1\n":           {"stroe", "did you mean store"},
		"[runtime.x]\nsorce = \"y\"\n":          {"runtime.x.sorce", "did you mean runtime.x.source?"},
		"[runtime.x]\nmax-size = \"1G\"\n":      {"runtime.x.max-size: unknown key"},
		"[store]\nmax-unpacked-bytes = 1\n":     {"store.max-unpacked-bytes", "store.max-unpacked"},
		"[gc]\nentirelydifferentthing = true\n": {"gc.entirelydifferentthing: unknown key"},
		"[gc]\nkeep = -1\n":                     {"keep", "-1 is no number of versions"},
		"[gc]\nkeep = 2.0\n":                    {"keep", "2.0 is no number of versions"},
		"[gc]\nmin-free = 1e3\n":                {"min-free", "1000.0 is no size"},
		"[runtime.\"a.b\"]\nsource = \"x\"\n":   {`runtime."a.b".source: "x" is no absolute path`},
		"[gc]\nkeep = \"2\"\n":                  {"keep"},
		"[gc]\ngrace = \"soon\"\n":              {"grace", `"soon" is no duration`},
		"[gc]\ngrace = 5\n":                     {"grace"},
		"[gc]\nmax-size = \"much\"\n":           {"max-size", `"much" is no size`},
		"[gc]\nmax-size = -5\n":                 {"max-size"},
		"[gc]\nrequire-complete-evidence = 1\n": {"require-complete-evidence"},
		"[gc\n":                                 {"line 2"},
		"[gc]\nkeep = 1\nkeep = 2\n":            {"line 3"},
	} {
		path := write(t, text)
		_, err := LoadFile(path)
		var e *Error
		if !errors.As(err, &e) || e.File != path {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for _, w := range append(want, path) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %q is missing in: %v", text, w, err)
			}
		}
	}
	if _, err := LoadFile(write(t, "[gc]\nentirelydifferentthing = true\n")); strings.Contains(err.Error(), "did you mean") {
		t.Errorf("a key that is like none: %v", err)
	}
}

func TestPaths(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	const system = "/etc/berth/config.toml"
	for _, c := range []struct {
		root bool
		env  func(string) string
		want []string
	}{
		{true, env("HOME", "/root"), []string{system}},
		{false, env("HOME", "/home/a"), []string{system, "/home/a/.config/berth/config.toml"}},
		{false, env("HOME", "/home/a", "XDG_CONFIG_HOME", "/c"), []string{system, "/c/berth/config.toml"}},
		{false, env("HOME", "/home/a", "XDG_CONFIG_HOME", "relative"), []string{system, "/home/a/.config/berth/config.toml"}},
		{false, env(), []string{system}},
	} {
		if got := Paths(c.root, c.env); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "14d": 14 * day, "2w": 14 * day, "0.5d": 12 * time.Hour, "0s": 0, "0": 0,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "14", "-1d", "-5s", "1e3d", "0x1d", "300000w", "1.2.3d", "infd", "1 d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1024": 1024, "5B": 5, "1K": 1 << 10, "500MB": 5e8, "20GiB": 20 << 30, "20G": 20 << 30, "1.5 GiB": 3 << 29, "2TB": 2e12, "1kB": 1000,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1X", "1e9", "0x10", "10000PB", "10000000TiB", "1 2", "1GiBi", "nan"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB", 5 << 40: "5.0 TiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("[gc]\nkeep = 2\n[runtime.a]\nsource = \"/x\"\n")
	f.Add("[gc]\nkep = 1\n")
	f.Add("[runtime.a.b.c]\nx = 1\n[[runtime.d]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := LoadFile(write(t, text))
		if err == nil && (c.GC.Keep < 0 || c.GC.Grace < 0 || c.GC.KeepNewer < 0 || c.GC.MaxSize < 0 || c.Store.MaxUnpacked < 0) {
			t.Errorf("%+v", c)
		}
	})
}
