package archive

import (
	"testing"
)

// The same comes of it where no program of that name is installed.
func TestXzWithoutTheProgram(t *testing.T) {
	in := packed(t)["xz"]
	if in == nil {
		t.Fatal("there is no xz among the compressors")
	}
	with, _, err := unpack(t, in, Options{})
	check(t, err)
	t.Setenv("PATH", "")
	without, _, err := unpack(t, in, Options{})
	check(t, err)
	if len(with.Entries) != len(without.Entries) || with.Size != without.Size || with.Digest != without.Digest {
		t.Errorf("%d entries and %d", len(with.Entries), len(without.Entries))
	}
	for i := range with.Entries {
		if with.Entries[i] != without.Entries[i] {
			t.Errorf("%+v and %+v", with.Entries[i], without.Entries[i])
		}
	}
}
