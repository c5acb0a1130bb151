package archive

import (
	"bytes"
	"io"
	"os"
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

// BenchmarkXz decodes by the program, one block and several, and in Go.
func BenchmarkXz(b *testing.B) {
	text := words(16 << 20)
	for name, in := range map[string][]byte{
		"one block":  pipe(b, text, "xz", "-1", "-c"),
		"two blocks": pipe(b, text, "xz", "-1", "-c", "--block-size=8388608"),
	} {
		for how, path := range map[string]string{"program": os.Getenv("PATH"), "Go": ""} {
			b.Run(name+"/"+how, func(b *testing.B) {
				b.Setenv("PATH", path)
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					d, err := unxz(b.Context(), bytes.NewReader(in))
					check(b, err)
					_, err = io.Copy(io.Discard, d)
					check(b, err)
					check(b, d.Close())
				}
			})
		}
	}
}
