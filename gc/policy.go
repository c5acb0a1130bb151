// Package gc decides which versions of a store's runtimes may go, and removes
// them.
//
// Plan decides. It is a pure function of Facts, so that what a collection
// would do can be shown, tested and argued about before anything is done. A
// Collector gathers the facts from a store and carries the plan out.
package gc

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"berth/store"
)

// Policy says which versions of one runtime are retained although nothing
// protects them.
type Policy struct {
	// Keep is how many versions besides the current one are retained, of
	// those that became current most recently. Pinned versions and those that
	// are condemned do not count.
	Keep int
	// KeepNewer retains what became current, or was installed if it never
	// did, less than this ago.
	KeepNewer time.Duration
	// Grace protects what was installed less than this ago.
	Grace time.Duration
}

// Limits are pressure: while one is exceeded, versions go that the policy
// would retain.
type Limits struct {
	MaxSize int64 // bytes that the store may occupy; 0: any
	MinFree int64 // bytes that shall be free on its file system; 0: any
}

// A Version is what Plan knows about one version.
type Version struct {
	Ref       store.Ref
	Current   bool
	Pinned    bool
	Condemned bool // by "remove --defer"
	Spared    bool // the collection is not about its runtime
	InUse     bool // somebody holds or occupies it
	// Doubt says what keeps us from knowing that it is free; "" if nothing.
	Doubt     string
	Installed time.Time
	Activated time.Time // zero if it never was current
}

// lastUse is the moment by which versions age.
func (v *Version) lastUse() time.Time {
	if v.Activated.IsZero() {
		return v.Installed
	}
	return v.Activated
}

// An Extent is space that several versions share by hard links, or that one
// has alone: it is freed when the last of them goes.
type Extent struct {
	Bytes  int64
	Owners []int // indexes into Facts.Versions
}

// Facts is all that Plan goes by.
type Facts struct {
	Now      time.Time
	Versions []Version
	Policy   func(runtime string) Policy // pure
	Limits   Limits
	Used     int64 // bytes that the store occupies
	Free     int64 // bytes free on its file system
	Extents  []Extent
}

// Action is what is to become of a version.
type Action string

const (
	Keep   Action = "keep"
	Remove Action = "remove"
	// Defer is for what would go if nobody used it.
	Defer Action = "defer"
)

// Rule is what made a decision.
type Rule string

const (
	// These protect, in this order, whatever else is wanted.
	RuleSpared  Rule = "not-named"
	RuleCurrent Rule = "current"
	RulePinned  Rule = "pinned"
	RuleInUse   Rule = "in-use"
	RuleDoubt   Rule = "evidence"
	RuleGrace   Rule = "grace"
	// These retain, unless there is pressure.
	RuleKeep       Rule = "keep"
	RuleKeepNewer  Rule = "keep-newer"
	RuleRolledBack Rule = "rolled-back"
	// These remove.
	RuleCondemned Rule = "deferred"
	RuleSurplus   Rule = "surplus"
	RuleMaxSize   Rule = "max-size"
	RuleMinFree   Rule = "min-free"
)

// A Decision says what is to become of a version, and why.
type Decision struct {
	Ref    store.Ref
	Action Action
	// Rule made the decision. For Defer it is what wants it removed.
	Rule   Rule
	Reason string // for people
	// Frees is what removing it frees, in bytes, after those that are to be
	// removed before it. It needs Facts.Extents.
	Frees int64
}

// Plan decides about every version, in the order of the facts. The same facts
// give the same decisions in whatever order the versions come.
//
// Protection always wins: the current version, pinned ones, those in use and
// those in doubt stay, and those in grace unless they were condemned by hand.
// Of the others go those that are condemned, and those that neither keep nor
// keep-newer retains, but for what was rolled back from. If the limits are still exceeded, retained ones go too,
// the one that was used least recently first, until they are met or nothing
// is left.
func Plan(f Facts) []Decision {
	p := planner{
		facts:     f,
		decisions: make([]Decision, len(f.Versions)),
		gone:      make([]bool, len(f.Versions)),
		extents:   make([][]Extent, len(f.Versions)),
	}
	for _, e := range f.Extents {
		for _, i := range e.Owners {
			p.extents[i] = append(p.extents[i], e)
		}
	}
	order := p.byAge()
	p.rank(order)
	p.findRolledBack()
	for _, i := range order {
		p.decide(i)
	}
	p.relieve()
	return p.decisions
}

type planner struct {
	facts Facts
	// By index of version:
	decisions []Decision
	gone      []bool // to be removed
	extents   [][]Extent
	ranks     []int // how many of the runtime became current after it
	// It was switched away from, and is what an upgrade would switch to.
	rolledBack []bool

	freed    int64 // by what is gone
	retained []int // least recently used first
}

// byAge orders versions by their last use, the oldest first.
func (p *planner) byAge() []int {
	order := make([]int, len(p.facts.Versions))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return older(&p.facts.Versions[i], &p.facts.Versions[j]) })
	return order
}

// older orders versions that never were current before all others.
func older(a, b *Version) int {
	return cmp.Or(
		a.Activated.Compare(b.Activated),
		a.Installed.Compare(b.Installed),
		cmp.Compare(a.Ref.Name, b.Ref.Name),
		store.CompareVersions(a.Ref.Version, b.Ref.Version),
	)
}

func (p *planner) decide(i int) {
	v := &p.facts.Versions[i]
	policy := p.facts.Policy(v.Ref.Name)
	age := p.facts.Now.Sub(v.Installed)
	switch {
	case v.Spared:
		p.set(i, Keep, RuleSpared, "it was not asked about")
	case v.Current:
		p.set(i, Keep, RuleCurrent, "it is the current version")
	case v.Pinned:
		p.set(i, Keep, RulePinned, "it is pinned")
	case v.Condemned:
		p.remove(i, RuleCondemned, "its removal was deferred")
	case age < policy.Grace:
		p.set(i, Keep, RuleGrace, fmt.Sprintf("it was installed less than %s ago", span(policy.Grace)))
	case p.ranks[i] < policy.Keep:
		p.set(i, Keep, RuleKeep, fmt.Sprintf("it is one of the %d that were current, or else installed, most recently", policy.Keep))
		p.retained = append(p.retained, i)
	case p.facts.Now.Sub(v.lastUse()) < policy.KeepNewer:
		p.set(i, Keep, RuleKeepNewer, fmt.Sprintf("it was current, or else installed, less than %s ago", span(policy.KeepNewer)))
		p.retained = append(p.retained, i)
	case p.rolledBack[i]:
		p.set(i, Keep, RuleRolledBack, "it was rolled back from: an upgrade would bring it again")
		p.retained = append(p.retained, i)
	default:
		p.remove(i, RuleSurplus, "no rule retains it")
	}
}

// findRolledBack finds, for every runtime, the greatest version that was current,
// if that was before the current one: that it is there is how an upgrade knows
// that it is not wanted.
func (p *planner) findRolledBack() {
	p.rolledBack = make([]bool, len(p.facts.Versions))
	greatest := make(map[string]int)
	since := make(map[string]time.Time) // the current version is current
	for i := range p.facts.Versions {
		v := &p.facts.Versions[i]
		name := v.Ref.Name
		if v.Activated.IsZero() {
			continue
		}
		if g, any := greatest[name]; !any || store.CompareVersions(v.Ref.Version, p.facts.Versions[g].Ref.Version) > 0 {
			greatest[name] = i
		}
		if at, any := since[name]; v.Current && (!any || v.Activated.Before(at)) {
			since[name] = v.Activated
		}
	}
	for name, i := range greatest {
		at, any := since[name]
		v := &p.facts.Versions[i]
		p.rolledBack[i] = any && !v.Current && !v.Activated.After(at)
	}
}

// rank counts, for every version, those of the same runtime that became
// current after it, of those that take a place among the kept.
func (p *planner) rank(order []int) {
	p.ranks = make([]int, len(order))
	seen := make(map[string]int)
	for _, i := range slices.Backward(order) {
		v := &p.facts.Versions[i]
		p.ranks[i] = seen[v.Ref.Name]
		if !v.Current && !v.Pinned && !v.Condemned {
			seen[v.Ref.Name]++
		}
	}
}

// remove decides for removal, unless somebody uses the version or that cannot
// be known.
func (p *planner) remove(i int, rule Rule, reason string) {
	switch v := &p.facts.Versions[i]; {
	case v.InUse:
		p.set(i, Defer, rule, reason+", but it is in use")
	case v.Doubt != "":
		p.set(i, Keep, RuleDoubt, "it may be in use: "+v.Doubt)
	default:
		p.set(i, Remove, rule, reason)
		p.gone[i] = true
		p.decisions[i].Frees = p.frees(i)
		p.freed += p.decisions[i].Frees
	}
}

func (p *planner) set(i int, action Action, rule Rule, reason string) {
	p.decisions[i] = Decision{Ref: p.facts.Versions[i].Ref, Action: action, Rule: rule, Reason: reason}
}

// frees sums the space of which i is the last owner that is not gone.
func (p *planner) frees(i int) (bytes int64) {
	for _, e := range p.extents[i] {
		if !slices.ContainsFunc(e.Owners, func(j int) bool { return j != i && !p.gone[j] }) {
			bytes += e.Bytes
		}
	}
	return bytes
}

// relieve removes retained versions while a limit is exceeded.
func (p *planner) relieve() {
	for _, i := range p.retained {
		rule, reason := p.pressure()
		if rule == "" {
			return
		}
		if v := &p.facts.Versions[i]; v.InUse || v.Doubt != "" {
			continue // it would free nothing now
		}
		p.remove(i, rule, reason)
	}
}

func (p *planner) pressure() (Rule, string) {
	limits := p.facts.Limits
	switch {
	case limits.MaxSize > 0 && p.facts.Used-p.freed > limits.MaxSize:
		return RuleMaxSize, "the store is larger than max-size"
	case limits.MinFree > 0 && p.facts.Free+p.freed < limits.MinFree:
		return RuleMinFree, "the file system has less than min-free"
	}
	return "", ""
}

// span writes a duration in the greatest unit of which it is a multiple.
func span(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d >= unit.length && d%unit.length == 0 {
			return fmt.Sprintf("%d %s", d/unit.length, unit.name)
		}
	}
	return d.String()
}
