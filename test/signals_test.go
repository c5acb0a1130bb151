package test

import (
	"os"
	"strings"
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

// Between a supervisor and a command in a container is bubblewrap, which does
// not pass signals on.
func TestSupervisePassesSignalsOn(t *testing.T) {
	w := newWorld(t)
	w.install("1.0")
	for _, how := range []string{"exec", "run"} {
		t.Run(how, func(t *testing.T) {
			said, err := os.Create(w.path(how))
			if err != nil {
				t.Fatal(err)
			}
			defer said.Close()
			has := func(word string) bool {
				text, err := os.ReadFile(said.Name())
				return err == nil && strings.Contains(string(text), word)
			}
			cmd := w.command(how, "--supervise", "demo", "sh", "-c", `trap "echo got; exit 3" TERM; echo ready; while :; do sleep 0.05; done`)
			cmd.Stdout, cmd.Stderr = said, said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the command is ready", func() bool { return has("ready") })
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != 3 || !has("got") {
				t.Errorf("exit status %d, and the command got the signal: %v", status, has("got"))
			}
		})
	}
}
