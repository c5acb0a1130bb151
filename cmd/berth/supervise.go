package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/store"
)

// superviseHeld runs the launch as a child and holds the version until the
// last descendant has ended, whatever they do with their descriptors. Then it
// collects the version if that was deferred for it. The exit status is that of
// the child.
func (a *app) superviseHeld(ctx context.Context, s *store.Store, held *store.Hold, l launch, env []string) error {
	// Orphans below become our children, so that the last can be waited for.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become a sub-reaper: %w", err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, heeded(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)...)
	defer signal.Stop(signals)

	command := make(chan int, 1) // a pidfd
	told := -1
	if l.bwrap {
		var info *os.File
		var err error
		if info, told, err = inheritedPipe(); err != nil {
			return err
		}
		l.argv = slices.Insert(slices.Clone(l.argv), 1, "--info-fd", strconv.Itoa(told))
		go func() {
			if fd, err := behindBwrap(info); err == nil {
				command <- fd
			}
		}()
	}
	child := exec.Cmd{Path: l.path, Args: l.argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	err := child.Start()
	if told >= 0 {
		unix.Close(told) // so that the reader sees its end
	}
	if err != nil {
		return cannotRun(l.argv[0], err)
	}
	c := &supervised{pid: child.Process.Pid, command: -1}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-signals:
				if l.bwrap && c.command < 0 {
					// bwrap would die of it and leave the command behind.
					select {
					case c.command = <-command:
					case <-time.After(time.Second):
					case <-ended:
					}
				}
				c.forward(sig.(unix.Signal))
			case <-ended:
				return
			}
		}
	}()
	status, err := c.reap()
	close(ended)
	if err != nil {
		return fmt.Errorf("cannot wait for %q: %w", l.argv[0], err)
	}

	// Let go first, then read the mark: who condemns the version marks it
	// first, then tries. One of the two sees the other.
	if err := held.Release(); err != nil {
		return err
	}
	if err := a.collectDeferred(context.WithoutCancel(ctx), s, held.Ref); err != nil {
		a.note("%v", err)
	}
	if status == 0 {
		return nil
	}
	return &statusError{status: status}
}

// inheritedPipe is a pipe whose writing end, a descriptor's number, children
// have under the same.
func inheritedPipe() (r *os.File, w int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, fmt.Errorf("cannot make a pipe: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETFD, 0); err != nil {
		return nil, 0, fmt.Errorf("cannot make a pipe: %w", err)
	}
	return os.NewFile(uintptr(ends[0]), "pipe"), ends[1], nil
}

// behindBwrap reads what bwrap(1) says of its child.
func behindBwrap(info *os.File) (pidfd int, err error) {
	defer info.Close()
	var said struct {
		PID int `json:"child-pid"`
	}
	if err := json.NewDecoder(info).Decode(&said); err != nil {
		return -1, err
	}
	return unix.PidfdOpen(said.PID, 0)
}

// supervised is the child. Once it has been waited for, its number can be that
// of any other process.
type supervised struct {
	mu    sync.Mutex
	pid   int
	ended bool
	// command is a pidfd of the process that the child waits for, and does not
	// pass signals on to: -1 if it is not known (yet), or is the child itself.
	command int
}

// forward passes a signal on, except one that the terminal has sent to the
// child as well.
func (c *supervised) forward(sig unix.Signal) {
	if sig == unix.SIGINT || sig == unix.SIGQUIT {
		group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
		if err == nil && group == unix.Getpgrp() {
			return
		}
	}
	if c.command >= 0 {
		_ = unix.PidfdSendSignal(c.command, sig, nil, 0)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = unix.Kill(c.pid, sig)
	}
}

// reap waits until there is no descendant left, and returns the status of the
// child as a shell gives it.
func (c *supervised) reap() (status int, err error) {
	for {
		// Without taking it: a signal must not come between.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return status, nil
		case err != nil:
			return 0, err
		}
		var ws unix.WaitStatus
		c.mu.Lock()
		got, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		c.ended = c.ended || got == c.pid
		c.mu.Unlock()
		switch {
		case err != nil && err != unix.EINTR && err != unix.ECHILD:
			return 0, err
		case got == c.pid && ws.Signaled():
			status = 128 + int(ws.Signal())
		case got == c.pid:
			status = ws.ExitStatus()
		}
	}
}

// collectDeferred removes the version that was held, if it was condemned
// meanwhile and we were its last user.
func (a *app) collectDeferred(ctx context.Context, s *store.Store, ref store.Ref) error {
	d, err := s.Lookup(ref)
	if isNotFound(err) {
		return a.drainQuietly(ctx, s)
	}
	if err != nil || !d.Deferred {
		return err
	}
	freed, err := s.Collect(ctx, *d, store.CollectOptions{})
	switch {
	case err == nil:
		a.note("removed %s, which freed %s", ref, size(freed))
	case isBusy(err), errors.Is(err, store.ErrNotFound), errors.Is(err, os.ErrPermission):
		// Others use it still, have removed it, or have to.
		return nil
	}
	return err
}

// drainQuietly removes what waited in the trash for us to end.
func (a *app) drainQuietly(ctx context.Context, s *store.Store) error {
	_, err := s.Drain(ctx)
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}
