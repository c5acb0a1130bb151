package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"berth/gc"
	"berth/lock"
	"berth/store"
)

type removeOptions struct {
	refs []string
	all  bool
	late bool
	wait time.Duration
}

func (a *app) removeCommand() *cli.Command {
	var opt removeOptions
	return command(&cli.Command{
		Name:      "remove",
		Usage:     "remove versions that nobody uses",
		ArgsUsage: "NAME@VERSION... | NAME --all",
		Description: `A version in use stays, and the exit status is 75. With --defer it takes no
new programs, and once it is free it is removed: by the next 'berth gc' or
'berth upgrade' of its runtime, or at once by a supervised run or exec that was
the last to use it. What is pinned stays, and so does the current version while
the runtime has others: with --all as well.

Example: berth remove sniper@0.20191024.0 --defer`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "remove every version of NAME, the current one last", Destination: &opt.all},
			&cli.BoolFlag{Name: "defer", Usage: "let what is in use be removed once it is free", Destination: &opt.late},
			&cli.StringFlag{Name: "wait", Usage: "wait up to `DURATION` for its users"},
		},
		Action: func(c *cli.Context) error {
			var err error
			if opt.wait, err = duration(c, "wait"); err != nil {
				return err
			}
			if opt.refs = c.Args().Slice(); len(opt.refs) == 0 {
				return usageError("say what to remove: NAME@VERSION")
			}
			return a.runRemove(c.Context, opt)
		},
	})
}

func (a *app) runRemove(ctx context.Context, opt removeOptions) error {
	refs := make([]store.Ref, len(opt.refs))
	for i, text := range opt.refs {
		var err error
		if refs[i], err = store.ParseRef(text); err != nil {
			return err
		}
		switch {
		case opt.all && refs[i].Version != "":
			return usageError("--all goes with a NAME without a version")
		case !opt.all && refs[i].Version == "":
			return usageError("say which version of " + text + " to remove, or --all")
		}
	}
	s, err := a.change()
	if errors.Is(err, store.ErrNoStore) {
		return &store.RefError{Op: "remove", Ref: refs[0], Err: store.ErrNotFound}
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := a.drain(ctx, s); err != nil {
		return err
	}
	if refs, err = versionsOf(s, refs, opt.all); err != nil {
		return err
	}
	if opt.wait > 0 {
		waiting, cancel := context.WithTimeout(ctx, opt.wait)
		defer cancel()
		return a.removeAll(ctx, waiting, s, refs, opt)
	}
	return a.removeAll(ctx, nil, s, refs, opt)
}

// versionsOf replaces names by all their versions, the current one last.
func versionsOf(s *store.Store, refs []store.Ref, all bool) ([]store.Ref, error) {
	if !all {
		return refs, nil
	}
	var versions []store.Ref
	for _, ref := range refs {
		list, err := s.List(ref.Name)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(list, func(x, y store.Deployment) int {
			switch {
			case x.Current == y.Current:
				return 0
			case x.Current:
				return 1
			}
			return -1
		})
		for _, d := range list {
			versions = append(versions, d.Ref)
		}
	}
	return versions, nil
}

// removeAll removes one after the other, and goes on after a failure.
func (a *app) removeAll(ctx, waiting context.Context, s *store.Store, refs []store.Ref, opt removeOptions) error {
	var r gc.Result
	var errs []error
	stays := make(map[string]store.Ref) // by name, one that is still listed
	for _, ref := range refs {
		if other, ok := stays[ref.Name]; ok && opt.all && isCurrent(s, ref) {
			r.Kept = append(r.Kept, gc.Kept{Ref: ref, Rule: gc.RuleCurrent, Reason: "it is the current version, and " + other.String() + " stays"})
			if !a.json {
				a.note("%s stays: it is current, and %s is not removed yet", ref, other)
			}
			continue
		}
		freed, err := a.removeOne(ctx, waiting, s, ref, opt)
		if ctx.Err() != nil {
			break // what is done has to be told
		}
		busy := (*store.InUseError)(nil)
		errors.As(err, &busy)
		switch {
		case err == nil:
			r.Removed = append(r.Removed, gc.Removal{Ref: ref, Reason: "it was asked for", Freed: freed})
		case busy != nil && (opt.late || busy.Trashed):
			r.Deferred = append(r.Deferred, gc.Deferral{Ref: ref, Rule: gc.RuleCondemned, Reason: "it is in use", Trashed: busy.Trashed, Uses: busy.Uses})
		case busy != nil:
			kept := gc.Kept{Ref: ref, Rule: gc.RuleInUse, Reason: "it is in use", Uses: busy.Uses}
			if busy.Doubt != "" {
				kept.Rule, kept.Reason = gc.RuleDoubt, "it may be in use: "+busy.Doubt
			}
			r.Kept = append(r.Kept, kept)
			errs = append(errs, err)
		default:
			r.Failed = append(r.Failed, gc.Failure{Ref: ref, Err: err})
			errs = append(errs, err)
		}
		if err != nil && (busy == nil || !busy.Trashed) {
			stays[ref.Name] = ref
		}
		if busy != nil && !a.json {
			a.printUses(a.err, []store.Occupied{{Ref: ref, Trashed: busy.Trashed, Uses: busy.Uses}})
		}
	}
	if a.json {
		var out resultJSON
		out.add(r)
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		for _, d := range r.Removed {
			a.note("removed %s, which freed %s", d.Ref, size(d.Freed))
		}
		for _, d := range r.Deferred {
			a.note("%s is in use; once it is free, the next gc removes it", d.Ref)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return together(errs)
}

func isCurrent(s *store.Store, ref store.Ref) bool {
	d, err := s.Lookup(ref)
	return err == nil && d.Current
}

func (a *app) removeOne(ctx, waiting context.Context, s *store.Store, ref store.Ref, opt removeOptions) (freed int64, err error) {
	const pause = 150 * time.Millisecond
	try := collectOne
	for told := false; ; {
		a.removing = a.meter("removing "+ref.String(), -1)
		freed, err = try(ctx, s, ref)
		a.removing.stop()
		if isTrashed(err) {
			try = drainOne // it is not listed any more
		}
		if waiting == nil || !isBusy(err) {
			break
		}
		if !told {
			a.note("waiting up to %s: %v", opt.wait, err)
			told = true
		}
		select {
		case <-waiting.Done():
		case <-time.After(pause):
			continue
		}
		break
	}
	if !opt.late || !isBusy(err) {
		return freed, err
	}
	if isTrashed(err) {
		return freed, err
	}
	if ctx.Err() != nil {
		return freed, context.Cause(ctx) // nothing is condemned after a Ctrl-C
	}
	if err := s.Defer(ctx, ref); err != nil {
		return 0, err
	}
	// The last of them may have left before it could see the mark.
	return collectOne(ctx, s, ref)
}

// collectOne removes what is listed under ref, also when somebody has just put
// another tree in its place.
func collectOne(ctx context.Context, s *store.Store, ref store.Ref) (int64, error) {
	for {
		d, err := s.Lookup(ref)
		if err != nil {
			return 0, err
		}
		freed, err := s.Collect(ctx, *d, store.CollectOptions{Last: d.Current})
		if !errors.Is(err, store.ErrChanged) {
			return freed, err
		}
	}
}

// drainOne tries again what is in the trash of a version.
func drainOne(ctx context.Context, s *store.Store, ref store.Ref) (freed int64, err error) {
	remnants, err := s.Drain(ctx)
	for _, r := range remnants {
		if r.Ref == ref {
			freed += r.Freed
			err = errors.Join(err, r.Err)
		}
	}
	return freed, err
}

func isTrashed(err error) bool {
	busy := (*store.InUseError)(nil)
	return errors.As(err, &busy) && busy.Trashed
}

func isBusy(err error) bool { return errors.Is(err, lock.ErrBusy) }
