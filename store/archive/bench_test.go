package archive

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkUnpack has 2,000 files of 16 KiB, half of it noise. With -cpu 1,2 it
// shows what it brings that decompression, parsing, and hashing and writing run
// at once; with -cpu 2,4 on two processors, what it brings that there one
// goroutine decodes a large frame. TMPDIR should be in memory, because ext4 is
// slow for a minute after a deletion.
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

// BenchmarkWriteBack unpacks large files and syncs the file system, which is
// that of $TMPDIR, having begun to write early or not.
func BenchmarkWriteBack(b *testing.B) {
	content := strings.Repeat(noise(1<<20), 48)
	archive := pack(b, file("a", content), file("b", content[1:]), file("c", content[2:]), file("d", content[3:]))
	for name, early := range map[string]bool{"early": true, "late": false} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(archive)))
			for b.Loop() {
				b.StopTimer()
				d := scratch(b)
				b.StartTimer()
				if _, err := Unpack(b.Context(), bytes.NewReader(archive), d, Options{WriteBack: early}); err != nil {
					b.Fatal(err)
				}
				if err := unix.Syncfs(int(d.Fd())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIndexed unpacks an archive of which a donor has nine files of ten,
// read from its beginning to its end, and by its table of contents.
func BenchmarkIndexed(b *testing.B) {
	text := noise(64 << 10)
	var older, newer []member
	for i := range 2000 {
		name := fmt.Sprintf("d%02d/file%04d", i%50, i)
		older = append(older, file(name, text[i:]))
		if i%10 == 0 {
			newer = append(newer, file(name, text[i:]+"changed"))
		} else {
			newer = append(newer, file(name, text[i:]))
		}
	}
	tree, at := mustUnpack(b, Options{}, older...)
	opt := Options{Donors: []Donor{donorOf(b, tree, at)}}
	var packed bytes.Buffer
	sum, err := Repack(b.Context(), bytes.NewReader(pack(b, newer...)), &packed, 3)
	if err != nil {
		b.Fatal(err)
	}
	for name, unpack := range map[string]func(d *os.File) error{
		"stream": func(d *os.File) error {
			_, err := Unpack(b.Context(), bytes.NewReader(packed.Bytes()), d, opt)
			return err
		},
		"table": func(d *os.File) error {
			_, err := UnpackIndexed(b.Context(), bytes.NewReader(packed.Bytes()), int64(packed.Len()), sum.TOC, d, opt)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				d := scratch(b)
				b.StartTimer()
				if err := unpack(d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
