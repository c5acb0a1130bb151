package gc

import (
	"context"
	"slices"
	"time"

	"berth/store"
)

// plan gathers the facts and decides. Who occupies a version is asked only for
// those that would go otherwise, all in one pass over the processes; since the
// answer can put pressure on others, until there is nobody left to ask for.
func (c *Collector) plan(ctx context.Context, names []string, sizes bool) (*collection, error) {
	p := &collection{}
	if err := p.list(c.Store, names, c.Limits != (Limits{})); err != nil {
		return nil, err
	}
	facts := Facts{Now: time.Now(), Versions: p.versions, Policy: c.Policy, Limits: c.Limits}
	if c.Now != nil {
		facts.Now = c.Now()
	}
	if c.Limits != (Limits{}) || sizes {
		if err := c.measure(ctx, p, &facts); err != nil {
			return nil, err
		}
	}
	asked := make([]bool, len(p.versions))
	for {
		p.decisions = Plan(facts)
		var ask []int
		for i, d := range p.decisions {
			if d.Action != Keep && !asked[i] {
				asked[i] = true
				ask = append(ask, i)
			}
		}
		if len(ask) == 0 {
			return p, nil
		}
		if err := c.ask(ctx, p, ask); err != nil {
			return nil, err
		}
	}
}

// list reads the deployments. Broken ones are failures, and no plan is made
// for them. With whole, those that are not named are read as well, because the
// limits are the whole store's.
func (p *collection) list(s *store.Store, names []string, whole bool) error {
	read := names
	if whole || len(names) == 0 {
		read = []string{""}
	}
	for _, name := range read {
		list, err := s.List(name)
		if err != nil {
			return err
		}
		current := make(map[string]bool)
		for _, d := range list {
			current[d.Ref.Name] = current[d.Ref.Name] || d.Current
		}
		for _, d := range list {
			switch {
			case d.Err == nil && current[d.Ref.Name]:
				p.deployments = append(p.deployments, d)
			case !named(names, d.Ref.Name):
			case d.Err == nil:
				// It is being installed or removed right now, an install was
				// killed, or somebody broke the link: which version programs
				// are to run on is not for us to say.
				p.kept = append(p.kept, Kept{Ref: d.Ref, Rule: RuleCurrent, Reason: store.ErrNoCurrent.Error()})
			default:
				p.failed = append(p.failed, Failure{d.Ref, d.Err})
			}
		}
	}
	p.versions = make([]Version, len(p.deployments))
	p.uses = make([][]store.Use, len(p.deployments))
	for i, d := range p.deployments {
		p.versions[i] = Version{
			Ref: d.Ref, Current: d.Current, Pinned: d.Pinned, Condemned: d.Deferred,
			Spared: !named(names, d.Ref.Name),
			InUse:  d.Locked != store.No, Installed: d.Installed, Activated: d.Activated,
		}
	}
	return nil
}

func named(names []string, name string) bool {
	return len(names) == 0 || slices.Contains(names, name)
}

// ask enters who uses the versions, and what could not be seen.
func (c *Collector) ask(ctx context.Context, p *collection, versions []int) error {
	deployments := make([]store.Deployment, len(versions))
	index := make(map[store.Ref]int)
	for n, i := range versions {
		deployments[n] = p.deployments[i]
		index[p.deployments[i].Ref] = i
	}
	found, blind, err := c.Store.Occupants(ctx, deployments)
	if err != nil {
		return err
	}
	for _, o := range found {
		i := index[o.Ref]
		p.uses[i] = o.Uses
		if slices.ContainsFunc(o.Uses, store.Use.Counts) {
			p.versions[i].InUse = true
		}
	}
	doubt, err := c.Store.Doubt(blind)
	if err != nil {
		return err
	}
	if doubt != "" {
		for _, i := range versions {
			p.versions[i].Doubt = doubt
		}
	}
	return nil
}

// measure enters the sizes: the space of the versions, of which inodes that
// are linked from outside of them free nothing.
func (c *Collector) measure(ctx context.Context, p *collection, facts *Facts) error {
	usage, err := c.Store.Usage(ctx, p.deployments)
	if err != nil {
		return err
	}
	facts.Used, facts.Free = usage.Used, usage.Free
	for _, e := range usage.Extents {
		if !e.Elsewhere {
			facts.Extents = append(facts.Extents, Extent{Bytes: e.Bytes, Owners: e.Owners})
		}
	}
	return nil
}
