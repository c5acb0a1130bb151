package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// warmUps are the launches that do not count.
const warmUps = 5

// launches measures short commands in turn, many times each.
func (b *bench) compareLaunches(group, dir string, names []string, commands ...[]string) ([]measured, error) {
	b.say("%s: %d launches of each", group, b.launches)
	if err := b.sync(); err != nil {
		return nil, err
	}
	samples, err := ask(b.ctx, b.env, request{Commands: commands, Times: warmUps + b.launches})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", group, err)
	}
	var results []measured
	for i, name := range names {
		results = append(results, measured{group, name, b.abbreviate(dir, commands[i]), samples[i][warmUps:]})
	}
	return results, nil
}

// launchStore is a store with the older version, for one group.
func (b *bench) launchStore() (dir string, err error) {
	dir = filepath.Join(b.scratch, "round")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, b.withOld(contender{}).prepare(dir)
}

func (b *bench) launchExec(rep *report) error {
	dir, err := b.launchStore()
	if err != nil {
		return err
	}
	m, err := b.compareLaunches("exec", dir, []string{"berth", "bwrap"},
		b.berthArgs(dir, "exec", "debian", "true"),
		[]string{"bwrap", "--ro-bind", "/", "/", "true"})
	if err != nil {
		return err
	}
	rep.add(m, faster("exec debian true", "bwrap --ro-bind / / true", 1.4, m[0], m[1]))
	return b.discard(dir)
}

func (b *bench) launchRun(rep *report) error {
	dir, err := b.launchStore()
	if err != nil {
		return err
	}
	run := b.berthArgs(dir, "run", "debian", "true")
	byHand, err := b.containerOf(dir, run)
	if err != nil {
		return fmt.Errorf("run: cannot see what berth asks of bwrap: %w", err)
	}
	m, err := b.compareLaunches("run", dir, []string{"berth", "bwrap, the same arguments"}, run, byHand)
	if err != nil {
		return err
	}
	m[1].command = "bwrap, with the arguments that berth gives it"
	rep.add(m, faster("run debian true", "the same bwrap by hand", 1.6, m[0], m[1]))
	return b.discard(dir)
}

// containerOf is the command line that berth becomes: a program in bwrap's
// place writes it down.
func (b *bench) containerOf(dir string, run []string) ([]string, error) {
	fake, record := filepath.Join(dir, "bin"), filepath.Join(dir, "arguments")
	if err := os.Mkdir(fake, 0o755); err != nil {
		return nil, err
	}
	script := "#!/bin/sh\nprintf '%s\\0' \"$@\" >'" + record + "'\n"
	if err := os.WriteFile(filepath.Join(fake, "bwrap"), []byte(script), 0o755); err != nil {
		return nil, err
	}
	env := append([]string{}, b.env...)
	for i, v := range env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			env[i] = "PATH=" + fake + ":" + path
		}
	}
	if _, err := ask(b.ctx, env, request{Commands: [][]string{run}, Times: 1}); err != nil {
		return nil, err
	}
	recorded, err := os.ReadFile(record)
	if err != nil {
		return nil, err
	}
	argv := []string{"bwrap"}
	for _, arg := range bytes.Split(bytes.TrimSuffix(recorded, []byte{0}), []byte{0}) {
		argv = append(argv, string(arg))
	}
	return argv, nil
}
