package store

import (
	"cmp"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestVersionsAreOrderedAsDpkgDoes(t *testing.T) {
	list := []string{
		"0.20191024.0", "0.20191108.0", "3.0.20250108.99", "3.0.20250108.112707", "3c.0.1", "10.0-4", "10.0-10", "10.0",
		"22.08", "22.08beta", "22.0.1+1", "1.0~rc1", "1.0", "1.00", "1.0-1", "1.0+b", "1.0.1-1", "21.0.3+9", "21.0.3+10",
		"8u402-b06", "8u412-b08", "9-9", "9-20", "a", "Z", "1_2", "1a", "1~", "1~~", "0", "00", "1-", "1.0-0", "99999999999999999999999", "100000000000000000000000",
	}
	for _, a := range list {
		for _, b := range list {
			got := CompareVersions(a, b)
			want := 0
			for sign, op := range map[int]string{-1: "lt", 1: "gt"} {
				// It warns of versions without a digit in front, and compares.
				err := exec.Command("dpkg", "--compare-versions", a, op, b).Run()
				if err == nil {
					want = sign
				} else if _, exit := err.(*exec.ExitError); !exit {
					t.Fatalf("needs dpkg: %v", err)
				}
			}
			if want == 0 {
				want = strings.Compare(a, b)
			}
			if strings.HasSuffix(a, "-") || strings.HasSuffix(b, "-") || strings.Contains(a+b, "_") {
				continue // dpkg refuses them
			}
			if cmp.Compare(got, 0) != want {
				t.Errorf("%q and %q: %d, dpkg says %d", a, b, got, want)
			}
		}
	}
}

func TestCompareVersionsIsATotalOrder(t *testing.T) {
	version := rapid.StringMatching(`[0-9a-zA-Z][0-9a-zA-Z._+~-]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(version, 3, 3).Draw(t, "versions")
		a, b, c := list[0], list[1], list[2]
		if CompareVersions(a, b) != -CompareVersions(b, a) {
			t.Fatalf("%q and %q are not antisymmetric", a, b)
		}
		if (CompareVersions(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q are equal", a, b)
		}
		slices.SortFunc(list, CompareVersions)
		if CompareVersions(list[0], list[1]) > 0 || CompareVersions(list[1], list[2]) > 0 || CompareVersions(list[0], list[2]) > 0 {
			t.Fatalf("%q %q %q are not transitive", a, b, c)
		}
	})
}

func TestParseRef(t *testing.T) {
	long := strings.Repeat("x", maxName)
	for text, want := range map[string]Ref{
		"sniper": {"sniper", ""}, "sniper@0.20191024.0": {"sniper", "0.20191024.0"}, "a@1": {"a", "1"},
		"org.freedesktop.Platform@22.08": {"org.freedesktop.Platform", "22.08"}, "a+b~c_d-e@1+2~3-4": {"a+b~c_d-e", "1+2~3-4"},
		long + "@" + long: {long, long},
	} {
		ref, err := ParseRef(text)
		if err != nil || ref != want || ref.String() != text {
			t.Errorf("%q: %+v, %v", text, ref, err)
		}
	}
	for _, text := range []string{
		"", "@", "a@", "@1", "a@current", "a@1@2", ".a", "-a", "a b", "a/b", "a@../1", "a@.1", "ä", "a\n", "a@1\x00", long + "x", "a@" + long + "x",
	} {
		if ref, err := ParseRef(text); err == nil {
			t.Errorf("%q: %+v", text, ref)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("sniper@0.20191024.0")
	f.Add("a@current")
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := ParseRef(text)
		if err != nil {
			return
		}
		if ref.String() != text || strings.ContainsAny(text, "/\x00\n ") || ref.Version == currentLink {
			t.Errorf("%q: %+v", text, ref)
		}
		if back := refOfTrash(trashName(ref, "abcdefgh")); ref.Version != "" && back != ref {
			t.Errorf("%q is %+v in the trash", text, back)
		}
	})
}
