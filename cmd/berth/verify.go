package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"berth/store"
)

func (a *app) verifyCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "verify",
		Usage:     "compare a version with its manifest",
		ArgsUsage: "REF",
		Description: `Prints what is missing, extra or changed, and exits with 65 if anything is.

Example: berth verify sniper`,
		Action: func(c *cli.Context) error {
			text, err := oneArg(c, "what to verify")
			if err != nil {
				return err
			}
			ref, err := store.ParseRef(text)
			if err != nil {
				return err
			}
			return a.runVerify(c.Context, ref)
		},
	})
}

type verifyJSON struct {
	Name        string           `json:"name"`
	Version     string           `json:"version"`
	Differences []differenceJSON `json:"differences"`
}

type differenceJSON struct {
	Path string `json:"path"`
	What string `json:"what"`
}

func (a *app) runVerify(ctx context.Context, ref store.Ref) error {
	var found []store.Difference
	err := a.inFirst(ref, func(s *store.Store) error {
		total := int64(-1)
		if d, err := s.Lookup(ref); err == nil {
			total = d.Size
		}
		meter := a.meter("verifying "+ref.String(), total)
		defer meter.stop()
		var err error
		ref, found, err = s.Verify(ctx, ref, meter.add)
		return err
	})
	if err != nil {
		return err
	}
	if err := a.printDifferences(ref, found); err != nil {
		return err
	}
	if len(found) > 0 {
		return differs(ref, found)
	}
	a.note("%s is as it was installed", ref)
	return nil
}

// differs says in how many members, unless all that was found is that they
// cannot be read.
func differs(ref store.Ref, found []store.Difference) error {
	paths := make(map[string]bool)
	read := false
	for _, d := range found {
		paths[d.Path] = true
		read = read || !d.Unread
	}
	if !read {
		return &statusError{exitPermission, fmt.Errorf("%s cannot be compared: %s cannot be read", ref, members(len(paths)))}
	}
	return &statusError{exitData, fmt.Errorf("%s differs from its manifest in %s", ref, members(len(paths)))}
}

func members(n int) string {
	if n == 1 {
		return "1 member"
	}
	return fmt.Sprintf("%d members", n)
}

func (a *app) printDifferences(ref store.Ref, found []store.Difference) error {
	if a.json {
		j := verifyJSON{ref.Name, ref.Version, []differenceJSON{}}
		for _, d := range found {
			j.Differences = append(j.Differences, differenceJSON{d.Path, d.What})
		}
		return a.printJSON(j)
	}
	var rows [][]string
	for _, d := range found {
		rows = append(rows, []string{strconv.Quote(d.Path), d.What})
	}
	return a.table(a.out, a.outTerminal, []string{"PATH", "WHAT"}, rows)
}
