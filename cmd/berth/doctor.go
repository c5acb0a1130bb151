package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"berth/lock"
	"berth/store"
)

func (a *app) doctorCommand() *cli.Command {
	return command(&cli.Command{
		Name:  "doctor",
		Usage: "examine the store and say what to do about it",
		Description: `Looks at the layout, permissions, left-overs, locks and free space. Exits with
65 if something is wrong.

Example: berth doctor`,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return a.runDoctor(c.Context)
		},
	})
}

// tryLockCommand is how doctor tries a lock in another process.
func (a *app) tryLockCommand() *cli.Command {
	return command(&cli.Command{
		Name:   "try-lock",
		Hidden: true,
		Action: func(c *cli.Context) error {
			f, err := os.OpenFile(c.Args().First(), os.O_RDWR|unix.O_NOFOLLOW, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return lock.Try(f, lock.Write)
		},
	})
}

type findingJSON struct {
	Bad  bool   `json:"bad"`
	What string `json:"what"`
	Do   string `json:"do"`
}

func (a *app) runDoctor(ctx context.Context) error {
	if _, err := a.config(); err != nil {
		return err
	}
	s, err := a.change()
	if errors.Is(err, store.ErrNoStore) {
		a.note("there is no store at %s yet", safe(a.writable()))
		if a.json {
			return a.printJSON([]findingJSON{})
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	found, err := s.Examine(ctx, func(path string) error { return tryElsewhere(ctx, path) })
	if err != nil {
		return err
	}
	bad := 0
	documents := []findingJSON{}
	var rows [][]string
	for _, f := range found {
		word := a.colour(a.outTerminal, yellow, "note")
		if f.Bad {
			bad++
			word = a.colour(a.outTerminal, red, "bad")
		}
		documents = append(documents, findingJSON(f))
		do := f.Do
		if do == "" {
			do = "-"
		}
		rows = append(rows, []string{safe(f.What), safe(do), word})
	}
	if a.json {
		err = a.printJSON(documents)
	} else {
		err = a.table(a.out, a.outTerminal, []string{"FINDING", "WHAT TO DO", ""}, rows)
	}
	if err != nil {
		return err
	}
	if bad > 0 {
		return &statusError{exitData, fmt.Errorf("the store %s needs attention", safe(s.Path()))}
	}
	a.note("the store %s is in order", safe(s.Path()))
	return nil
}

// tryElsewhere tries the write lock of a file in another process: the error is
// lock.ErrBusy if it is not to be had.
func tryElsewhere(ctx context.Context, path string) error {
	err := exec.CommandContext(ctx, "/proc/self/exe", "try-lock", path).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitBusy {
		return lock.ErrBusy
	}
	return err
}
