package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"

	"berth/gc"
	"berth/store"
	"berth/store/source"
)

func (a *app) upgradeCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "upgrade",
		Usage:     "install the newest version of the channel, switch to it, collect",
		ArgsUsage: "[NAME...]",
		Description: `Without a name: every installed runtime that has a channel in the
configuration. Old versions of these runtimes are collected by policy, except
those in use; other runtimes are left alone. A version that was current before
and was switched away from is not made current again.

Example: berth upgrade sniper`,
		Action: func(c *cli.Context) error { return a.runUpgrade(c.Context, c.Args().Slice()) },
	})
}

func (a *app) runUpgrade(ctx context.Context, names []string) error {
	names, err := a.upgradable(names)
	if err != nil {
		return err
	}
	out := resultJSON{Installed: []installedVersionJSON{}}
	var failed []error
	var upgraded []string
	for _, name := range names {
		done, err := a.upgrade(ctx, name)
		if err != nil && ctx.Err() != nil {
			break // what is done has to be told
		}
		if err != nil {
			failed = append(failed, err)
			at := &store.RefError{}
			errors.As(err, &at)
			out.Failed = append(out.Failed, failedJSON{name, at.Ref.Version, err.Error()})
			continue
		}
		upgraded = append(upgraded, name)
		if done != nil {
			out.Installed = append(out.Installed, installedJSON(done)...)
		}
	}
	if ctx.Err() == nil && (len(upgraded) > 0 || len(names) == 0) {
		if err := a.collectAfterUpgrade(ctx, upgraded, &out); err != nil {
			failed = append(failed, err)
		}
	}
	if a.json {
		out.add(gc.Result{}) // nothing may have been collected
		if err := a.printJSON(out); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return together(failed)
}

// upgradable are the runtimes that were named, or the installed ones that have
// a channel.
func (a *app) upgradable(names []string) ([]string, error) {
	if len(names) > 0 {
		return names, checkNames(names)
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	s, err := a.change()
	if errors.Is(err, store.ErrNoStore) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer s.Close()
	list, err := s.List("")
	if err != nil {
		return nil, err
	}
	found := make(map[string]bool)
	for _, d := range list {
		if cfg.Runtimes[d.Ref.Name].Source != "" {
			found[d.Ref.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// upgrade installs the newest version of one runtime and switches to it. It
// returns nil if there is nothing to do.
func (a *app) upgrade(ctx context.Context, name string) (*store.Installed, error) {
	offers, err := a.offers(ctx, name)
	if err != nil {
		return nil, err
	}
	target := newest(offers)
	why, err := a.notNow(name, target.Version)
	if err != nil {
		return nil, err
	}
	if why != "" {
		a.note("%s: %s", name, why)
		return nil, nil
	}
	return a.install(ctx, target, installOptions{activate: true})
}

// notNow says why a version of the channel is not to be made current: "" if it
// is.
func (a *app) notNow(name, version string) (string, error) {
	s, err := a.change()
	if errors.Is(err, store.ErrNoStore) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer s.Close()
	list, err := s.List(name)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// Whoever switches away activates another version later. What was activated
	// last and is not current was killed before the link.
	var since time.Time
	for _, d := range list {
		switch {
		case d.Current && d.Ref.Version == version:
			return version + " is current, and the newest", nil
		case d.Current && store.CompareVersions(d.Ref.Version, version) > 0:
			return fmt.Sprintf("%s is current, and newer than the channel's %s", d.Ref.Version, version), nil
		case d.Current:
			since = d.Activated
		}
	}
	for _, d := range list {
		if !d.Current && d.Ref.Version == version && !d.Activated.IsZero() && !d.Activated.After(since) {
			return fmt.Sprintf("%s was current before and was switched away from; 'berth switch %s' makes it current again", version, d.Ref), nil
		}
	}
	return "", nil
}

// offers lists what the channel of a runtime has: at least one.
func (a *app) offers(ctx context.Context, name string) ([]source.Artifact, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	where := cfg.Runtimes[name].Source
	if where == "" {
		return nil, &hintedError{
			&store.RefError{Op: "find a channel for", Ref: store.Ref{Name: name}, Err: source.ErrNotFound},
			fmt.Sprintf("set source in [%s] of the configuration", toml.Key{"runtime", name}),
		}
	}
	offers, err := source.Directory(where).List(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the channel of %s: %w", name, err)
	}
	offers = slices.DeleteFunc(offers, func(o source.Artifact) bool {
		if store.ValidVersion(o.Version) {
			return false
		}
		a.detail("left out: %q is no version of %s", o.Version, name)
		return true
	})
	if len(offers) == 0 {
		return nil, fmt.Errorf("the channel %q has no version of %s: %w", where, name, source.ErrNotFound)
	}
	return offers, nil
}

func newest(offers []source.Artifact) source.Artifact {
	return slices.MaxFunc(offers, func(a, b source.Artifact) int {
		return store.CompareVersions(a.Version, b.Version)
	})
}
