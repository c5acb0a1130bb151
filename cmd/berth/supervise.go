package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"

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

	child := exec.Cmd{Path: l.path, Args: l.argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := child.Start(); err != nil {
		return cannotRun(l.argv[0], err)
	}
	c := &supervised{pid: child.Process.Pid}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-signals:
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

// supervised is the child. Once it has been waited for, its number can be that
// of any other process.
type supervised struct {
	mu    sync.Mutex
	pid   int
	ended bool
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
