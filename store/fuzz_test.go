package store

import (
	"strings"
	"testing"
)

// What is parsed as a ref is a name that is safe as a path, and comes back.
func FuzzRef(f *testing.F) {
	for _, text := range []string{"sniper", "org.freedesktop.Platform@22.08", "a@1@2", "a@current", "@", "../x@1", "a@../1", "a b", strings.Repeat("x", 97)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := ParseRef(text)
		if err != nil {
			return
		}
		if ref.String() != text {
			t.Errorf("%q is %q", text, ref)
		}
		for _, part := range []string{ref.Name, ref.Version} {
			if strings.ContainsAny(part, "/\x00\n@ ") || strings.HasPrefix(part, ".") || strings.HasPrefix(part, "-") || len(part) > 96 || part == "current" && part == ref.Version {
				t.Errorf("%q has %q", text, part)
			}
		}
		if named := refOfTrash(trashName(ref, "abcdefgh")); ref.Version != "" && named != ref {
			t.Errorf("%q is %q in the trash", ref, named)
		}
	})
}

// Versions have one order, whatever they are.
func FuzzVersion(f *testing.F) {
	for _, list := range [][3]string{{"1.0", "1.0~rc1", "1.00"}, {"22.0.1+1", "9-9", "a"}, {"", "~", "999999999999999999999"}} {
		f.Add(list[0], list[1], list[2])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if CompareVersions(a, b) != -CompareVersions(b, a) || (CompareVersions(a, b) == 0) != (a == b) {
			t.Errorf("%q and %q: %d, %d", a, b, CompareVersions(a, b), CompareVersions(b, a))
		}
		if CompareVersions(a, b) < 0 && CompareVersions(b, c) < 0 && CompareVersions(a, c) >= 0 {
			t.Errorf("%q < %q < %q, but not the first and the last", a, b, c)
		}
	})
}
