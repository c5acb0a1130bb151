package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// Whoever kills the program, or interrupts all that we have started, does not
// make a bad archive of a good one.
func TestXzThatIsKilled(t *testing.T) {
	in := packed(t)["xz"]
	path := t.TempDir()
	t.Setenv("PATH", path)
	for _, signal := range []string{"KILL", "INT", "TERM"} {
		check(t, os.WriteFile(filepath.Join(path, "xz"), []byte("#!/bin/sh\nkill -"+signal+" $$\n"), 0o755))
		_, _, err := unpack(t, in, Options{})
		if !errors.Is(err, errProgram) || errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", signal, err)
		}
	}
}

// The xz of busybox takes no limits, and is left alone.
func TestXzOfBusybox(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	check(t, err)
	path := t.TempDir()
	check(t, os.Symlink(busybox, filepath.Join(path, "xz")))
	in := packed(t)["xz"]
	t.Setenv("PATH", path)
	if at, ok := xzProgram(); ok {
		t.Errorf("%s would be run", at)
	}
	_, _, err = unpack(t, in, Options{})
	check(t, err)
}

// Decoding blocks at once takes no more memory than it may, however large they
// are and however many processors there are.
func TestXzMemory(t *testing.T) {
	text := make([]byte, 192<<20)
	d, err := unxz(t.Context(), bytes.NewReader(pipe(t, text, "xz", "-0", "--block-size=25165824", "-T2", "-c")))
	check(t, err)
	p, ok := d.(*xzProcess)
	if !ok {
		t.Fatalf("%T decodes", d)
	}
	// It waits for us to read the rest.
	_, err = io.CopyN(io.Discard, d, int64(len(text))-8<<20)
	check(t, err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	check(t, err)
	_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
	var kib int
	_, err = fmt.Sscan(string(after), &kib)
	check(t, err)
	if kib > (threadsMemory+16<<20)>>10 {
		t.Errorf("xz took %d KiB", kib)
	}
	check(t, d.Close())
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
