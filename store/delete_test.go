package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkDelete deletes 8,000 files in 80 directories, with one directory at
// a time and with several. Mind that deleting slows down what makes inodes on
// ext4 in the next five seconds: only the deletion is timed.
func BenchmarkDelete(b *testing.B) {
	for name, extra := range map[string]int{"in turn": 0, "at once": deleters - 1} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				at := b.TempDir()
				for i := range 80 {
					sub := filepath.Join(at, fmt.Sprint(i))
					if err := os.Mkdir(sub, 0o755); err != nil {
						b.Fatal(err)
					}
					for j := range 100 {
						if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(j)), make([]byte, 20<<10), 0o644); err != nil {
							b.Fatal(err)
						}
					}
				}
				d, err := openDirPath(at)
				if err != nil {
					b.Fatal(err)
				}
				w := newDeletion(b.Context(), nil)
				w.more = make(chan struct{}, extra)
				b.StartTimer()
				if err := w.content(d); err != nil {
					b.Fatal(err)
				}
				d.Close()
			}
		})
	}
}
