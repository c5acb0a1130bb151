package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Any file is read, or refused with an error that names it.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("[gc]\nkeep = 2\nkeep-newer = \"14d\"\nmax-size = \"20GiB\"\n[runtime.sniper]\nsource = \"/srv\"\nkeep = 1\n"))
	f.Add([]byte("[gc]\nkepe = 2\n"))
	f.Add([]byte("[store]\nmax-unpacked = 99999999999999999999\ndedup = false\n"))
	f.Add([]byte("[gc]\ngrace = \"1e300w\"\nmin-free = \"-1\"\n[runtime.\"../x\"]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadFile(path)
		if err != nil {
			var known *Error
			if !errors.As(err, &known) {
				t.Errorf("%v", err)
			}
			return
		}
		for name := range c.Runtimes {
			p := c.PolicyFor(name)
			if p.Keep < 0 || p.Grace < 0 || p.KeepNewer < 0 {
				t.Errorf("%q: %+v", name, p)
			}
		}
		if c.GC.MaxSize < 0 || c.GC.MinFree < 0 || c.Store.MaxUnpacked < 0 {
			t.Errorf("%+v", c)
		}
	})
}
