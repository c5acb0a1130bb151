package main

import "testing"

func TestMounted(t *testing.T) {
	const dir = "/srv/bench"
	for _, c := range []struct{ line, want string }{
		{"31 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard", "ext4 (rw,relatime; rw,discard)"},
		{"32 1 254:0 / /srv/other rw - ext4 /dev/vda rw", ""}, // is not above
		{"33 1 254:9 / / rw - ext4 /dev/vdb rw", ""},          // is another device
		{"34 1 0:40 /vol /srv rw - btrfs /dev/vdc rw,ssd", "btrfs (rw; rw,ssd)"},
		{"nonsense", ""},
	} {
		got, ok := mounted(c.line, "254:0", dir)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

func TestFileSystemOfThisMachine(t *testing.T) {
	got, err := fileSystem(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got == "unknown" {
		t.Error("the mount of the temporary directory was not found")
	}
}

func TestVersionIn(t *testing.T) {
	for output, want := range map[string]string{
		"tar (GNU tar) 1.34\nCopyright\n":                     "tar (GNU tar) 1.34",
		"*** Zstandard CLI v1.5.4 ***\n":                      "Zstandard CLI v1.5.4",
		"libostree:\n Version: '2022.7'\n Features:\n  - a\n": "Version: '2022.7'",
		"": "unknown",
	} {
		if got := versionIn(output); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
