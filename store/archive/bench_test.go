package archive

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkUnpack has 2,000 files of 16 KiB, half of it noise.
func BenchmarkUnpack(b *testing.B) {
	var members []member
	text := noise(8<<10) + string(bytes.Repeat([]byte("text "), 8<<10/5))
	for i := range 2000 {
		members = append(members, file(fmt.Sprintf("d%02d/file%04d", i%50, i), text[i:]+text[:i]))
	}
	archive := pack(b, members...)
	for name, command := range compressors() {
		in := pipe(b, archive, command...)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(archive)))
			for b.Loop() {
				d := scratch(b)
				if _, err := Unpack(context.Background(), bytes.NewReader(in), d, Options{LockFile: ".ref"}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				os.RemoveAll(filepath.Join(d.Name(), "files"))
				b.StartTimer()
			}
		})
	}
}
