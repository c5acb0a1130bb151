package chunked

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const benchArchive = "../../../build/runtimes/debian-12.0.tar.zst"

func BenchmarkWriter(b *testing.B) {
	ps := members(b, benchArchive)
	var s Summary
	for b.Loop() {
		w, err := NewWriter(io.Discard, zstd.SpeedDefault)
		if err != nil {
			b.Fatal(err)
		}
		writeParts(b, w, ps)
		if s, err = w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(s.TarSize)
	b.ReportMetric(float64(s.Size), "packed-B")
	b.ReportMetric(float64(s.TOCSize), "table-B")
}

func BenchmarkOpen(b *testing.B) {
	archive, s := packFull(b, members(b, benchArchive))
	for b.Loop() {
		if _, err := Open(bytes.NewReader(archive), s.Size, Options{Digest: &s.TOCDigest}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(s.TOCSize)
}

func BenchmarkReader(b *testing.B) {
	archive, s := packFull(b, members(b, benchArchive))
	for name, every := range map[string]int{"all": 1, "tenth": 10} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var read int64
			for b.Loop() {
				x, err := Open(bytes.NewReader(archive), s.Size, Options{})
				if err != nil {
					b.Fatal(err)
				}
				var some []*Entry
				for i := 0; i < len(x.Entries()); i += every {
					some = append(some, x.Entries()[i])
				}
				if err := drainEntries(x, some, ReadOptions{}); err != nil {
					b.Fatal(err)
				}
				read = x.BytesRead()
			}
			b.ReportMetric(float64(read), "read-B")
		})
	}
}

// BenchmarkContent reads every file by itself, with the tools that the one
// before has left, and with new ones.
func BenchmarkContent(b *testing.B) {
	archive, s := packFull(b, members(b, benchArchive))
	x, err := Open(bytes.NewReader(archive), s.Size, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for name, kept := range map[string]bool{"kept": true, "new": false} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, e := range x.Entries() {
					r, err := x.Content(e)
					if err == nil {
						_, err = io.Copy(io.Discard, r)
					}
					if err != nil {
						b.Fatal(err)
					}
					if !kept {
						x.idle = nil
					}
				}
			}
		})
	}
}
