package main

import (
	"fmt"
	"slices"
)

// A group is measured together, so that what it compares takes turns.
type group struct {
	name    string
	trees   int // that a round has on the disk at once, at most
	measure func(*bench, *report) error
}

var groups = []group{
	{"zst", 5, (*bench).installZst},
	{"gz", 4, (*bench).installGz},
	{"xz", 3, (*bench).installXz},
	{"durable", 3, (*bench).installDurable},
	{"upgrade", 4, (*bench).upgradePlain},
	{"indexed", 5, (*bench).upgradeIndexed},
	{"flatpak", 11, (*bench).againstFlatpak},
	{"ostree", 9, (*bench).againstOSTree},
	{"remove", 3, (*bench).removeAlone},
	{"remove-shared", 3, (*bench).removeShared},
	{"exec", 2, (*bench).launchExec},
	{"run", 2, (*bench).launchRun},
}

func groupNames() []string {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	return names
}

func (b *bench) measureAll(rep *report) error {
	floor, err := ask(b.ctx, b.env, request{Commands: [][]string{{"true"}}, Times: 1})
	if err != nil {
		return fmt.Errorf("cannot measure a command: %w", err)
	}
	rep.memoryFloor = floor[0][0].Memory
	for _, g := range groups {
		if len(b.groups) > 0 && !slices.Contains(b.groups, g.name) {
			continue
		}
		b.trees = g.trees
		if err := b.needSpace(); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		if err := g.measure(b, rep); err != nil {
			return err
		}
	}
	return nil
}
