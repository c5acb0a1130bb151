package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"berth/store"
)

func (a *app) listCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "list",
		Usage:     "list the installed versions",
		ArgsUsage: "[NAME]",
		Description: `Shows which version is current, and which are pinned, in use, or to be
removed once they are free; and of several stores, in which each is.

Example: berth list sniper`,
		Action: func(c *cli.Context) error {
			name, err := nameOrNone(c)
			if err != nil {
				return err
			}
			return a.runList(c.Context, name)
		},
	})
}

type deploymentJSON struct {
	Store       string     `json:"store"`
	Name        string     `json:"name"`
	Version     string     `json:"version"`
	Current     bool       `json:"current"`
	Pinned      bool       `json:"pinned"`
	State       string     `json:"state"`
	InUse       string     `json:"in_use"`
	Holders     int        `json:"holders"`
	Size        int64      `json:"size"`
	InstalledAt *time.Time `json:"installed_at"`
	ActivatedAt *time.Time `json:"activated_at"`
	DeferredAt  *time.Time `json:"deferred_at"`
	Error       string     `json:"error"`
}

// usedBy is whether a version is in use, and by whom.
type usedBy struct {
	inUse store.Answer
	uses  []store.Use
}

func (a *app) runList(ctx context.Context, name string) error {
	found := false
	documents := []deploymentJSON{}
	var rows [][]string
	var in []string // the store of each
	err := a.inEach(func(s *store.Store) error {
		list, err := s.List(name)
		if err != nil && !isNotFound(err) {
			return err
		}
		found = found || err == nil
		users, err := a.users(ctx, s, list)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			a.note("cannot see who uses what: %v", err)
		}
		for _, d := range list {
			uses, seen := users[d.Ref]
			u := usedBy{inUse(d, uses, seen), uses}
			documents = append(documents, listJSON(s, d, u))
			rows = append(rows, a.listRow(d, u))
		}
		trash, _, err := s.Trash(ctx)
		if err != nil {
			return err
		}
		for _, t := range trash {
			if name != "" && t.Ref.Name != name {
				continue
			}
			found = true
			if !a.json {
				rows = append(rows, []string{t.Ref.Name, t.Ref.Version, "-", "-", a.trashState(t)})
			}
		}
		for len(in) < len(rows) {
			in = append(in, s.Path())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if name != "" && !found {
		return &store.RefError{Op: "list", Ref: store.Ref{Name: name}, Err: store.ErrNotFound}
	}
	if a.json {
		return a.printJSON(documents)
	}
	heading := []string{"NAME", "VERSION", "SIZE", "AGE", "STATE"}
	if len(in) > 0 && in[0] != in[len(in)-1] {
		heading = slices.Insert(heading, 4, "STORE")
		for i := range rows {
			rows[i] = slices.Insert(rows[i], 4, safe(in[i]))
		}
	}
	return a.table(a.out, a.outTerminal, heading, rows)
}

// users asks for the processes that keep the versions, by a lock or otherwise.
func (a *app) users(ctx context.Context, s *store.Store, list []store.Deployment) (map[store.Ref][]store.Use, error) {
	found, _, err := s.Occupants(ctx, list)
	if err != nil {
		return nil, err
	}
	uses := make(map[store.Ref][]store.Use)
	for _, o := range found {
		uses[o.Ref] = slices.DeleteFunc(o.Uses, func(u store.Use) bool { return !u.Counts() })
	}
	return uses, nil
}

// inUse is what the lock says, or a process that uses it without one, if those
// were seen.
func inUse(d store.Deployment, uses []store.Use, seen bool) store.Answer {
	switch {
	case len(uses) > 0:
		return store.Yes
	case d.Locked == store.No && !seen:
		return store.Unknown
	}
	return d.Locked
}

func countHolders(uses []store.Use) int {
	pids := make(map[int]bool)
	for _, u := range uses {
		pids[u.PID] = true
	}
	return len(pids)
}

func listJSON(s *store.Store, d store.Deployment, u usedBy) deploymentJSON {
	j := deploymentJSON{
		Store: s.Path(), Name: d.Ref.Name, Version: d.Ref.Version,
		Current: d.Current, Pinned: d.Pinned, State: "ready",
		InUse: string(u.inUse), Holders: countHolders(u.uses), Size: d.Size,
		InstalledAt: optionalTime(d.Installed), ActivatedAt: optionalTime(d.Activated),
		DeferredAt: optionalTime(d.DeferredAt),
	}
	if d.Deferred {
		j.State = "deferred"
	}
	if d.Err != nil {
		j.Error = d.Err.Error()
	}
	return j
}

func (a *app) listRow(d store.Deployment, u usedBy) []string {
	return []string{d.Ref.Name, d.Ref.Version, size(d.Size), age(d.Installed), a.state(d, u)}
}

// state describes a deployment in a few words.
func (a *app) state(d store.Deployment, u usedBy) string {
	var words []string
	add := func(is bool, code, word string) {
		if is {
			words = append(words, a.colour(a.outTerminal, code, word))
		}
	}
	add(d.Current, green, "current")
	add(d.Pinned, green, "pinned")
	used := "in use"
	if n := countHolders(u.uses); n > 0 {
		used = fmt.Sprintf("in use (%d)", n)
	}
	add(u.inUse == store.Yes, yellow, used)
	if d.Deferred {
		deferred := "deferred " + age(d.DeferredAt)
		if len(u.uses) > 0 {
			deferred += ", " + (&store.InUseError{Uses: u.uses}).Error()
		}
		add(true, yellow, deferred)
	}
	if d.Err != nil {
		add(true, red, safe(d.Err.Error()))
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ", ")
}

func (a *app) trashState(t store.Occupied) string {
	if len(t.Uses) == 0 {
		return a.colour(a.outTerminal, yellow, "in the trash")
	}
	return a.colour(a.outTerminal, yellow, "in the trash, "+(&store.InUseError{Uses: t.Uses}).Error())
}
