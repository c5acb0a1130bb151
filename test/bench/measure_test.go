package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == measureArgument {
		// Not os.Exit: the race detector sleeps there, for a second each time.
		syscall.Exit(serveMeasure(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func askFor(t *testing.T, req request) [][]sample {
	t.Helper()
	samples, err := ask(t.Context(), os.Environ(), req)
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

// execve(2) leaves the program the memory of the one before: a command that is
// measured from here must not get what we have.
func TestMemoryIsTheCommandsOwn(t *testing.T) {
	ballast := bytes.Repeat([]byte("x"), 256<<20)
	s := askFor(t, request{Commands: [][]string{{"true"}}, Times: 1})[0][0]
	if s.Memory == 0 || s.Memory > 128<<20 {
		t.Errorf("true had %s", mib(s.Memory))
	}
	runtime.KeepAlive(ballast)
}

func TestMemoryOfAGrandchildCounts(t *testing.T) {
	const script = `head -c 300000000 /dev/zero | tail -c 300000000 >/dev/null; true`
	s := askFor(t, request{Commands: [][]string{{"sh", "-c", script}}, Times: 1})[0][0]
	if s.Memory < 200<<20 {
		t.Errorf("a command with a child of 300 MB had %s", mib(s.Memory))
	}
}

func TestTimes(t *testing.T) {
	s := askFor(t, request{Commands: [][]string{{"sleep", "0.3"}}, Times: 1})[0][0]
	if s.Wall < 300*time.Millisecond || s.Wall > 10*time.Second {
		t.Errorf("sleep 0.3 took %s", s.Wall)
	}
	if s.CPU > 200*time.Millisecond {
		t.Errorf("sleep 0.3 took %s of the processor", s.CPU)
	}
	busy := `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	s = askFor(t, request{Commands: [][]string{{"sh", "-c", "sh -c '" + busy + "'; true"}}, Times: 1})[0][0]
	if s.CPU < 20*time.Millisecond {
		t.Errorf("a loop took %s of the processor", s.CPU)
	}
}

func TestCommandsTakeTurns(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	samples := askFor(t, request{
		Commands: [][]string{{"sh", "-c", "echo a >>" + log}, {"sh", "-c", "echo b >>" + log}}, Times: 3,
	})
	if len(samples) != 2 || len(samples[0]) != 3 || len(samples[1]) != 3 {
		t.Errorf("samples %v", samples)
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "a\nb\na\nb\na\nb\n" {
		t.Errorf("order %q", got)
	}
}

func TestOutputIsKept(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	askFor(t, request{Commands: [][]string{{"echo", "hello"}}, Times: 1, Stdout: out})
	if got, err := os.ReadFile(out); err != nil || string(got) != "hello\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFailureIsAnError(t *testing.T) {
	for _, argv := range [][]string{{"sh", "-c", "echo complaint >&2; exit 3"}, {"/nonexistent/program"}} {
		_, err := ask(t.Context(), os.Environ(), request{Commands: [][]string{argv}, Times: 1})
		if err == nil {
			t.Errorf("%q: no error", argv)
		} else if argv[0] == "sh" && !(strings.Contains(err.Error(), "complaint") && strings.Contains(err.Error(), "status 3")) {
			t.Errorf("%q: %v", argv, err)
		}
	}
}
