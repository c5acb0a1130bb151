package test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSecondSignal ends the command where it waits for what does not heed the
// first: the writer of a fifo.
func TestSecondSignal(t *testing.T) {
	w := newWorld(t)
	fifo := w.path("fifo.tar")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"install", fifo, "--as", "demo@1"},
		{"--config", fifo, "gc"},
	} {
		cmd := w.command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		time.Sleep(300 * time.Millisecond)
		for tries := 0; ; tries++ {
			if tries == 50 {
				cmd.Process.Kill()
				<-ended
				t.Fatalf("berth %q does not end", args)
			}
			_ = cmd.Process.Signal(unix.SIGTERM)
			select {
			case <-ended:
			case <-time.After(200 * time.Millisecond):
				continue
			}
			break
		}
	}
	w.must(0, "doctor")
}
