package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"berth/store"
)

func (a *app) switchCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "switch",
		Usage:     "make a version the current one",
		ArgsUsage: "NAME@VERSION",
		Description: `Programs that run on another version go on as before.

Example: berth switch sniper@0.20191108.0`,
		Action: func(c *cli.Context) error {
			ref, err := versionArg(c)
			if err != nil {
				return err
			}
			return a.changing(c.Context, ref, func(ctx context.Context, s *store.Store) error {
				if err := s.Switch(ctx, ref); err != nil {
					return err
				}
				return a.changed(ref, "%s is current")
			})
		},
	})
}

func (a *app) rollbackCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "rollback",
		Usage:     "make the version current that was so before",
		ArgsUsage: "NAME",
		Description: `Twice returns to where it began.

Example: berth rollback sniper`,
		Action: func(c *cli.Context) error {
			text, err := oneArg(c, "which runtime to roll back")
			if err != nil {
				return err
			}
			ref, err := store.ParseRef(text)
			if err != nil {
				return err
			}
			if ref.Version != "" {
				return usageError("rollback goes by itself to the version before; 'berth switch' to one that you name")
			}
			return a.changing(c.Context, ref, func(ctx context.Context, s *store.Store) error {
				to, err := s.Rollback(ctx, ref.Name)
				if err != nil {
					return err
				}
				return a.changed(to, "%s is current")
			})
		},
	})
}

func (a *app) pinCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "pin",
		Usage:     "protect a version from collection and removal",
		ArgsUsage: "NAME@VERSION",
		Description: `The mark is the file "keep" in the version's directory.

Example: berth pin sniper@0.20191024.0`,
		Action: a.remark((*store.Store).Pin, "%s is pinned"),
	})
}

func (a *app) unpinCommand() *cli.Command {
	return command(&cli.Command{
		Name:        "unpin",
		Usage:       "take the protection of pin away",
		ArgsUsage:   "NAME@VERSION",
		Description: "Example: berth unpin sniper@0.20191024.0",
		Action:      a.remark((*store.Store).Unpin, "%s is not pinned"),
	})
}

func (a *app) remark(change func(*store.Store, context.Context, store.Ref) (store.Ref, error), done string) cli.ActionFunc {
	return func(c *cli.Context) error {
		ref, err := versionArg(c)
		if err != nil {
			return err
		}
		return a.changing(c.Context, ref, func(ctx context.Context, s *store.Store) error {
			ref, err := change(s, ctx, ref)
			if err != nil {
				return err
			}
			return a.changed(ref, done)
		})
	}
}

type refJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// changed says what was done to a version.
func (a *app) changed(ref store.Ref, done string) error {
	if a.json {
		return a.printJSON(refJSON{ref.Name, ref.Version})
	}
	a.note(done, ref)
	return nil
}

// versionArg is the only argument, a ref with a version.
func versionArg(c *cli.Context) (store.Ref, error) {
	text, err := oneArg(c, "which version: NAME@VERSION")
	if err != nil {
		return store.Ref{}, err
	}
	ref, err := store.ParseRef(text)
	if err == nil && ref.Version == "" {
		err = usageError("say which version of " + text + ": NAME@VERSION")
	}
	return ref, err
}

// changing opens the store for a change, drains it and calls fn.
func (a *app) changing(ctx context.Context, ref store.Ref, fn func(context.Context, *store.Store) error) error {
	s, err := a.change()
	if errors.Is(err, store.ErrNoStore) {
		return &store.RefError{Op: "find", Ref: ref, Err: store.ErrNotFound}
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := a.drain(ctx, s); err != nil {
		return err
	}
	return fn(ctx, s)
}
