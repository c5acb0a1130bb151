package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"berth/config"
	"berth/gc"
	"berth/store"
)

type gcOptions struct {
	names  []string
	dryRun bool
	keep   int // -1: as the configuration says
	wait   time.Duration
}

func (a *app) gcCommand() *cli.Command {
	opt := gcOptions{keep: -1}
	return command(&cli.Command{
		Name:      "gc",
		Usage:     "collect the versions that the policy gives up and nobody uses",
		ArgsUsage: "[NAME...]",
		Description: `What is current, pinned or in use stays. What is in use and would go
otherwise is deferred: a later gc collects it. Deferring is no failure.

Example: berth gc --dry-run`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would be done, and why", Destination: &opt.dryRun},
			&cli.IntFlag{Name: "keep", Usage: "keep the `N` most recently current versions besides the current one", Value: -1, DefaultText: "as configured", Destination: &opt.keep},
			&cli.StringFlag{Name: "wait", Usage: "wait up to `DURATION` (30s, 2h, 1d) for what is in use"},
		},
		Action: func(c *cli.Context) error {
			if c.IsSet("keep") && opt.keep < 0 {
				return usageError("--keep is a number of versions, 0 or more")
			}
			var err error
			if opt.wait, err = duration(c, "wait"); err != nil {
				return err
			}
			opt.names = c.Args().Slice()
			if err := checkNames(opt.names); err != nil {
				return err
			}
			return a.runGC(c.Context, opt)
		},
	})
}

// duration is the value of a flag, 0 if it is not given.
func duration(c *cli.Context, flag string) (time.Duration, error) {
	if !c.IsSet(flag) {
		return 0, nil
	}
	text := c.String(flag)
	d, err := config.ParseDuration(text)
	if err != nil {
		return 0, usageError(fmt.Sprintf("--%s: %v", flag, err))
	}
	return d, nil
}

func (a *app) runGC(ctx context.Context, opt gcOptions) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	s, err := a.change()
	if errors.Is(err, store.ErrNoStore) {
		if len(opt.names) > 0 {
			return &store.RefError{Op: "collect", Ref: store.Ref{Name: opt.names[0]}, Err: store.ErrNotFound}
		}
		a.detail("nothing to collect: %v", err)
		return a.printResult(gc.Result{}, opt.dryRun)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	c := collector(s, cfg, opt.keep)
	if opt.dryRun {
		r, err := c.Preview(ctx, opt.names)
		if err != nil {
			return err
		}
		return a.printResult(r, true)
	}
	a.removing = a.meter("removing", -1)
	r, err := c.Collect(ctx, opt.names, nil)
	a.removing.stop()
	if err == nil && opt.wait > 0 && len(r.Deferred) > 0 {
		a.note("waiting up to %s for %s", opt.wait, r.Deferred[0].Ref)
		waiting, cancel := context.WithTimeout(ctx, opt.wait)
		defer cancel()
		r, err = c.AwaitFree(waiting, opt.names, r, nil)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, a.printResult(r, false))
	}
	return a.printResult(r, false)
}

// collector is one for the store, by the rules of the configuration.
func collector(s *store.Store, cfg config.Config, keep int) *gc.Collector {
	return &gc.Collector{
		Store: s,
		Policy: func(name string) gc.Policy {
			p := cfg.PolicyFor(name)
			if keep >= 0 {
				p.Keep = keep
			}
			return gc.Policy{Keep: p.Keep, KeepNewer: p.KeepNewer, Grace: p.Grace}
		},
		Limits: gc.Limits{MaxSize: cfg.GC.MaxSize, MinFree: cfg.GC.MinFree},
	}
}

// collectAfterUpgrade collects the runtimes named by policy, and adds what was
// done to out. Of none it only drains: to a collection that would be all.
func (a *app) collectAfterUpgrade(ctx context.Context, names []string, out *resultJSON) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	s, err := a.change()
	if errors.Is(err, store.ErrNoStore) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if len(names) == 0 {
		_, err := a.drain(ctx, s)
		return err
	}
	a.removing = a.meter("removing", -1)
	r, err := collector(s, cfg, -1).Collect(ctx, names, nil)
	a.removing.stop()
	out.add(r)
	if a.json {
		return errors.Join(err, failures(r))
	}
	return errors.Join(err, a.tellResult(r, false))
}

// failures is the error of a collection in which some version failed: that of
// whoever may not change the store at all, else the status says that not all
// was done.
func failures(r gc.Result) error {
	if len(r.Failed) == 0 {
		return nil
	}
	other := len(r.Removed) > 0
	var errs []error
	for _, f := range r.Failed {
		other = other || statusOf(f.Err) != exitPermission
		err := f.Err
		if named := (*store.RefError)(nil); !errors.As(err, &named) {
			err = fmt.Errorf("%s: %w", f.Ref, err)
		}
		errs = append(errs, err)
	}
	if !other {
		return &statusError{exitPermission, errors.Join(errs...)}
	}
	return &statusError{exitIO, errors.Join(errs...)}
}
