package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// measureArgument makes this program the small process from which commands are
// measured. execve(2) counts the memory of the process that calls it as the
// program's own (ru_maxrss, getrusage(2)), and this program has a lot after a
// while: what a fresh one has is below anything of interest.
const measureArgument = "measure-commands"

// A sample is what one run of a command took.
type sample struct {
	Wall   time.Duration
	CPU    time.Duration // user and system, of the command and its children
	Memory int64         // bytes that the largest of these processes had at most
}

// A request is measured in one process: each command in turn, so many times.
type request struct {
	Commands [][]string
	Times    int
	Stdout   string // file that gets the commands' output; "" is nowhere
}

// serveMeasure answers one request and returns the exit status.
func serveMeasure(in io.Reader, out, complain io.Writer) int {
	err := func() error {
		var req request
		if err := json.NewDecoder(in).Decode(&req); err != nil {
			return err
		}
		samples, err := req.measure()
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(samples)
	}()
	if err != nil {
		fmt.Fprintln(complain, err)
		return 1
	}
	return 0
}

func (req request) measure() ([][]sample, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	out := null
	if req.Stdout != "" {
		if out, err = os.Create(req.Stdout); err != nil {
			return nil, err
		}
		defer out.Close()
	}
	paths := make([]string, len(req.Commands))
	for i, argv := range req.Commands {
		if paths[i], err = exec.LookPath(argv[0]); err != nil {
			return nil, err
		}
	}
	samples := make([][]sample, len(req.Commands))
	for range req.Times {
		for i, argv := range req.Commands {
			s, err := measureOne(paths[i], argv, []*os.File{null, out, os.Stderr})
			if err != nil {
				return nil, fmt.Errorf("%q: %w", argv, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	return samples, nil
}

func measureOne(path string, argv []string, files []*os.File) (s sample, err error) {
	start := time.Now()
	process, err := os.StartProcess(path, argv, &os.ProcAttr{Files: files})
	if err != nil {
		return s, err
	}
	state, err := process.Wait()
	s.Wall = time.Since(start)
	if err != nil {
		return s, err
	}
	if !state.Success() {
		return s, errors.New(state.String())
	}
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return s, errors.New("no resource usage")
	}
	s.CPU = state.UserTime() + state.SystemTime()
	s.Memory = usage.Maxrss << 10
	return s, nil
}

// ask has a request answered by a fresh small process.
func ask(ctx context.Context, env []string, req request) ([][]sample, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, measureArgument)
	// The command that is being measured has to end before its directory goes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.Env = env
	cmd.Stdin = bytes.NewReader(in)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(complaints.String()))
	}
	var samples [][]sample
	if err := json.Unmarshal(out.Bytes(), &samples); err != nil {
		return nil, fmt.Errorf("cannot read the samples: %w", err)
	}
	return samples, nil
}
