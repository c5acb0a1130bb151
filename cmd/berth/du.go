package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"berth/store"
)

func (a *app) duCommand() *cli.Command {
	return command(&cli.Command{
		Name:      "du",
		Usage:     "show what each version occupies, alone and shared",
		ArgsUsage: "[NAME]",
		Description: `Versions share unchanged files. What one has alone is what removing it would
free; what it shares is freed with the last of its owners. What is used in all
is the whole store's.

Example: berth du sniper`,
		Action: func(c *cli.Context) error {
			name, err := nameOrNone(c)
			if err != nil {
				return err
			}
			return a.runDu(c.Context, name)
		},
	})
}

type (
	usageJSON struct {
		Store    string             `json:"store"`
		Used     int64              `json:"used"`
		Free     int64              `json:"free"`
		Versions []versionUsageJSON `json:"versions"`
	}
	versionUsageJSON struct {
		Name     string `json:"name"`
		Version  string `json:"version"`
		Occupied int64  `json:"occupied"`
		Alone    int64  `json:"alone"`
		Shared   int64  `json:"shared"`
		Frees    int64  `json:"frees"`
	}
)

func (a *app) runDu(ctx context.Context, name string) error {
	documents := []usageJSON{}
	var rows [][]string
	err := a.inEach(func(s *store.Store) error {
		// All, because what is used in all is the store's.
		list, err := s.List("")
		if err != nil {
			return err
		}
		usage, err := s.Usage(ctx, list)
		if err != nil {
			return err
		}
		u := usageOf(s, list, usage)
		if name != "" {
			u.Versions = slices.DeleteFunc(u.Versions, func(v versionUsageJSON) bool { return v.Name != name })
			if len(u.Versions) == 0 {
				return nil
			}
		}
		documents = append(documents, u)
		for _, v := range u.Versions {
			rows = append(rows, []string{v.Name, v.Version, size(v.Occupied), size(v.Alone), size(v.Shared), size(v.Frees)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if name != "" && len(documents) == 0 {
		return &store.RefError{Op: "measure", Ref: store.Ref{Name: name}, Err: store.ErrNotFound}
	}
	if a.json {
		return a.printJSON(documents)
	}
	if err := a.table(a.out, a.outTerminal, []string{"NAME", "VERSION", "OCCUPIED", "ALONE", "SHARED", "FREES"}, rows); err != nil {
		return err
	}
	for _, u := range documents {
		a.note("%s in all, %s free, in %s", size(u.Used), size(u.Free), safe(u.Store))
	}
	return nil
}

func usageOf(s *store.Store, list []store.Deployment, usage store.Usage) usageJSON {
	u := usageJSON{Store: s.Path(), Used: usage.Used, Free: usage.Free, Versions: make([]versionUsageJSON, len(list))}
	for i, d := range list {
		u.Versions[i].Name, u.Versions[i].Version = d.Ref.Name, d.Ref.Version
	}
	for _, e := range usage.Extents {
		for _, owner := range e.Owners {
			v := &u.Versions[owner]
			v.Occupied += e.Bytes
			if len(e.Owners) == 1 && !e.Elsewhere {
				v.Alone, v.Frees = v.Alone+e.Bytes, v.Frees+e.Bytes
			} else {
				v.Shared += e.Bytes
			}
		}
	}
	return u
}
