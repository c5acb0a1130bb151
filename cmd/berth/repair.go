package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"berth/store"
)

func (a *app) repairCommand() *cli.Command {
	var noSync bool
	return command(&cli.Command{
		Name:      "repair",
		Usage:     "make a version again what its manifest says",
		ArgsUsage: "REF",
		Description: `What is missing or changed is taken from identical files of other versions,
or else the version is unpacked once more from where it came. The whole tree is
replaced, if nobody uses it: otherwise the exit status is 75.

Example: berth repair sniper@0.20191024.0`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "no-sync", Usage: noSyncUsage, Destination: &noSync},
		},
		Action: func(c *cli.Context) error {
			text, err := oneArg(c, "what to repair")
			if err != nil {
				return err
			}
			ref, err := store.ParseRef(text)
			if err != nil {
				return err
			}
			return a.changing(c.Context, ref, func(ctx context.Context, s *store.Store) error {
				return a.runRepair(ctx, s, ref, noSync)
			})
		},
	})
}

func (a *app) runRepair(ctx context.Context, s *store.Store, ref store.Ref, noSync bool) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	meter := a.meter("repairing "+ref.String(), -1)
	done, err := s.Repair(ctx, ref, store.InstallOptions{
		NoSync: noSync, NoDedup: !cfg.Store.Dedup, VerifyDonors: true, MaxSize: cfg.Store.MaxUnpacked, Read: meter.add,
	})
	meter.stop()
	if err != nil {
		return err
	}
	if err := a.printDifferences(done.Ref, done.Differences); err != nil {
		return err
	}
	switch {
	case done.From != "":
		a.note("repaired %s from %s", done.Ref, done.From)
	case len(done.Differences) > 0:
		a.note("repaired %s", done.Ref)
	default:
		a.note("%s is as it was installed", done.Ref)
	}
	return nil
}
