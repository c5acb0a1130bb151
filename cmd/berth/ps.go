package main

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/urfave/cli/v2"

	"berth/store"
)

func (a *app) psCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "ps",
		Usage:     "show who uses which version",
		ArgsUsage: "[REF]",
		Description: `Shows every process that holds a lock on a version, or uses its files in
another way, also of versions that are in the trash already.

Example: berth ps sniper@0.20191024.0`,
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return a.runPs(c.Context, store.Ref{})
			}
			text, err := oneArg(c, "which version")
			if err != nil {
				return err
			}
			ref, err := store.ParseRef(text)
			if err != nil {
				return err
			}
			return a.runPs(c.Context, ref)
		},
	})
}

type useJSON struct {
	Store   string `json:"store"`
	Name    string `json:"name"`
	Version string `json:"version"`
	processJSON
	Trashed bool `json:"trashed"`
}

// runPs shows the users of what ref means; of everything, if it is empty.
func (a *app) runPs(ctx context.Context, ref store.Ref) error {
	found := ref == store.Ref{}
	var all []store.Occupied
	documents := []useJSON{}
	told := make(map[store.Blind]bool)
	err := a.inEach(func(s *store.Store) error {
		list, err := s.List(ref.Name)
		if err != nil && !isNotFound(err) {
			return err
		}
		var asked []store.Deployment
		for _, d := range list {
			if matches(ref, d.Ref) {
				asked = append(asked, d)
			}
		}
		occupied, blind, err := s.Occupants(ctx, asked)
		if err != nil {
			return err
		}
		trash, blindTrash, err := s.Trash(ctx)
		if err != nil {
			return err
		}
		for _, t := range trash {
			if matches(ref, t.Ref) {
				occupied = append(occupied, t)
			}
		}
		found = found || len(occupied) > 0
		all = append(all, occupied...)
		documents = append(documents, usesJSON(s, occupied)...)
		for _, b := range append(blind, blindTrash...) {
			if !told[b] {
				a.detail("not seen: %s", b.Text)
			}
			told[b] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !found {
		return &store.RefError{Op: "find", Ref: ref, Err: store.ErrNotFound}
	}
	if a.json {
		return a.printJSON(documents)
	}
	return a.printUses(a.out, all)
}

// matches tells whether a version is meant: "" means any.
func matches(want, ref store.Ref) bool {
	return (want.Name == "" || want.Name == ref.Name) && (want.Version == "" || want.Version == ref.Version)
}

func usesJSON(s *store.Store, all []store.Occupied) (list []useJSON) {
	for _, o := range all {
		for _, p := range processesJSON(o.Uses) {
			list = append(list, useJSON{s.Path(), o.Ref.Name, o.Ref.Version, p, o.Trashed})
		}
	}
	return list
}

// printUses prints a line for every way of use.
func (a *app) printUses(to io.Writer, all []store.Occupied) error {
	var rows [][]string
	for _, o := range all {
		for _, u := range o.Uses {
			since := "-"
			if !u.Since.IsZero() {
				since = u.Since.Local().Format("2006-01-02 15:04")
			}
			where := o.Ref.String()
			if o.Trashed {
				where += " (trash)"
			}
			rows = append(rows, []string{where, strconv.Itoa(u.PID), u.Account, safe(u.Command), since, string(u.How), safe(u.Path)})
		}
	}
	terminal := a.outTerminal
	if to == a.err {
		terminal = a.errTerminal
	}
	return a.table(to, terminal, []string{"VERSION", "PID", "ACCOUNT", "COMMAND", "SINCE", "HOW", "PATH"}, rows)
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
