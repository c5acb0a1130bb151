package gc

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"berth/lock"
	"berth/store"
)

// A Collector collects the versions of a store that its policy gives up.
type Collector struct {
	Store  *store.Store
	Policy func(runtime string) Policy
	Limits Limits
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// A Result is what a collection did, or would do.
type Result struct {
	Removed  []Removal
	Deferred []Deferral
	Kept     []Kept
	Failed   []Failure
}

// Removal is a version that is gone.
type Removal struct {
	Ref    store.Ref
	Rule   Rule
	Reason string
	Freed  int64 // bytes
}

// Deferral is a version that stays until its users have gone.
type Deferral struct {
	Ref     store.Ref
	Rule    Rule
	Reason  string
	Trashed bool // it is not listed any more
	Uses    []store.Use
}

// Kept is a version that stays.
type Kept struct {
	Ref    store.Ref
	Rule   Rule
	Reason string
	Uses   []store.Use // if they are why
}

// Failure is a version that stays because of an error.
type Failure struct {
	Ref store.Ref
	Err error
}

// Preview says what Collect would do, for the runtimes named or, if none is,
// for all. It changes nothing.
func (c *Collector) Preview(ctx context.Context, names []string) (Result, error) {
	plan, err := c.plan(ctx, names, true)
	if err != nil {
		return Result{}, err
	}
	var r Result
	for i, d := range plan.decisions {
		if d.Action == Remove {
			r.Removed = append(r.Removed, Removal{d.Ref, d.Rule, d.Reason, d.Frees})
		} else {
			plan.stay(&r, i)
		}
	}
	trash, blind, err := c.Store.Trash(ctx)
	if err != nil {
		return Result{}, err
	}
	doubt, err := c.Store.Doubt(blind)
	if err != nil {
		return Result{}, err
	}
	for _, t := range trash {
		if len(t.Uses) > 0 || doubt != "" {
			r.Deferred = append(r.Deferred, inTrash(t.Ref, &store.InUseError{Uses: t.Uses, Doubt: doubt}))
		} else {
			r.Removed = append(r.Removed, Removal{Ref: t.Ref, Rule: RuleCondemned, Reason: "it was in the trash"})
		}
	}
	r.Failed = plan.failed
	r.Kept = append(r.Kept, plan.kept...)
	return r, nil
}

// Collect drains the store, then removes what the plan gives up, one after the
// other: rename and delete one before the next is condemned, so that a full
// disk never needs a new directory block. What turns out to be in use is
// deferred. What fails does not stop the rest. removed, if not nil, is told of
// every version as soon as it is gone.
func (c *Collector) Collect(ctx context.Context, names []string, removed func(Removal)) (Result, error) {
	var r Result
	if err := c.drain(ctx, &r, removed); err != nil {
		return r, err
	}
	plan, err := c.plan(ctx, names, false)
	if err != nil {
		return r, err
	}
	r.Failed = append(r.Failed, plan.failed...)
	r.Kept = append(r.Kept, plan.kept...)
	for i, d := range plan.decisions {
		if d.Action != Remove {
			plan.stay(&r, i)
		}
	}
	for _, i := range plan.removals() {
		d := plan.decisions[i]
		freed, err := c.Store.Collect(ctx, plan.deployments[i], store.CollectOptions{})
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		c.enter(&r, d, freed, err, removed)
	}
	return r, nil
}

func (c *Collector) drain(ctx context.Context, r *Result, removed func(Removal)) error {
	remnants, err := c.Store.Drain(ctx)
	for _, m := range remnants {
		busy := (*store.InUseError)(nil)
		switch {
		case errors.As(m.Err, &busy):
			r.Deferred = append(r.Deferred, inTrash(m.Ref, busy))
		case m.Err != nil:
			r.Failed = append(r.Failed, Failure{m.Ref, m.Err})
		default:
			done := Removal{Ref: m.Ref, Rule: RuleCondemned, Reason: "it was in the trash", Freed: m.Freed}
			r.Removed = append(r.Removed, done)
			if removed != nil {
				removed(done)
			}
		}
	}
	return err
}

func inTrash(ref store.Ref, busy *store.InUseError) Deferral {
	return Deferral{ref, RuleCondemned, "it is in the trash, and it " + inUse(busy), true, busy.Uses}
}

// inUse tells a doubt from what is known.
func inUse(busy *store.InUseError) string {
	if len(busy.Uses) == 0 && busy.Doubt != "" {
		return "may be in use: " + busy.Doubt
	}
	return "is in use"
}

// enter puts what became of a version into the result.
func (c *Collector) enter(r *Result, d Decision, freed int64, err error, removed func(Removal)) {
	busy := (*store.InUseError)(nil)
	switch {
	case err == nil:
		done := Removal{d.Ref, d.Rule, d.Reason, freed}
		r.Removed = append(r.Removed, done)
		if removed != nil {
			removed(done)
		}
	case errors.As(err, &busy):
		r.Deferred = append(r.Deferred, Deferral{d.Ref, d.Rule, d.Reason + ", but it " + inUse(busy), busy.Trashed, busy.Uses})
	case errors.Is(err, store.ErrCurrent):
		r.Kept = append(r.Kept, Kept{Ref: d.Ref, Rule: RuleCurrent, Reason: "it has become the current version"})
	case errors.Is(err, store.ErrPinned):
		r.Kept = append(r.Kept, Kept{Ref: d.Ref, Rule: RulePinned, Reason: "it has been pinned"})
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrChanged):
		// Somebody else has collected or replaced it: it is his to report.
	case errors.Is(err, lock.ErrBusy):
		r.Deferred = append(r.Deferred, Deferral{d.Ref, d.Rule, d.Reason + ", but it is locked", false, nil})
	default:
		r.Failed = append(r.Failed, Failure{d.Ref, err})
	}
}

// AwaitFree looks until ctx is done whether what was deferred has become free,
// and collects it. It returns when nothing is deferred any more, or with the
// last result when ctx is done: that is no error.
func (c *Collector) AwaitFree(ctx context.Context, names []string, r Result, removed func(Removal)) (Result, error) {
	const pause = 150 * time.Millisecond
	for len(r.Deferred) > 0 {
		select {
		case <-ctx.Done():
			return r, nil
		case <-time.After(pause):
		}
		next, err := c.Collect(context.WithoutCancel(ctx), names, removed)
		next.Removed = append(r.Removed, next.Removed...)
		if err != nil {
			return next, err
		}
		r = next
	}
	return r, nil
}

// collection is a plan beside what it was made from.
type collection struct {
	deployments []store.Deployment
	versions    []Version
	uses        [][]store.Use
	decisions   []Decision
	failed      []Failure
	kept        []Kept // without a decision of the policy
}

// stay puts a version that is not to be removed into the result.
func (p *collection) stay(r *Result, i int) {
	switch d := p.decisions[i]; d.Action {
	case Defer:
		r.Deferred = append(r.Deferred, Deferral{d.Ref, d.Rule, d.Reason, false, p.uses[i]})
	case Keep:
		if d.Rule == RuleSpared {
			return
		}
		r.Kept = append(r.Kept, Kept{Ref: d.Ref, Rule: d.Rule, Reason: d.Reason})
	}
}

// removals orders what is to be removed as the plan accounts for it.
func (p *collection) removals() []int {
	var list []int
	for i, d := range p.decisions {
		if d.Action == Remove {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(i, j int) int {
		return cmp.Or(older(&p.versions[i], &p.versions[j]), cmp.Compare(i, j))
	})
	return list
}
