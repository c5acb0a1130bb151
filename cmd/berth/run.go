package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"berth/store"
)

func (a *app) runCommand() *cli.Command {
	var opt execOptions
	return command(&cli.Command{
		Name:      "run",
		Usage:     "run a command in a version, in a container",
		ArgsUsage: "REF COMMAND [ARGUMENT...]",
		Description: `The version is mounted read-only by bubblewrap, as /usr, or as the root if
it has a usr of its own. Home, working directory, /tmp, /dev, /proc, /run/user
and the network are the host's. The version stays for as long as the command
or a child of it has the locked descriptor. The exit status is the command's.

Example: berth run sniper python3 -c 'print("hello")'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "supervise", Usage: superviseUsage, Destination: &opt.supervise},
		},
		Action: func(c *cli.Context) error {
			if err := opt.parse(c); err != nil {
				return err
			}
			return a.runRun(c.Context, opt)
		},
	})
}

func (a *app) runRun(ctx context.Context, opt execOptions) error {
	return a.underHold(ctx, opt, func(h *store.Hold) (launch, error) {
		bwrap, err := exec.LookPath("bwrap")
		if err != nil {
			return launch{}, &statusError{exitUnavailable, &hintedError{
				fmt.Errorf("cannot run a container: %w", err),
				"install the package bubblewrap, or use 'berth exec', which needs no container",
			}}
		}
		box, err := newContainer(h.Files())
		if err != nil {
			return launch{}, fmt.Errorf("cannot lay out a container of %s: %w", h.Ref, err)
		}
		search := searchPath(os.Getenv("PATH"))
		if err := box.lookPath(opt.argv[0], search); err != nil {
			return launch{}, cannotRun(opt.argv[0], err)
		}
		argv := append([]string{"bwrap"}, box.arguments()...)
		argv = append(append(argv, "--"), opt.argv...)
		// bwrap counts the command's arguments with its own, and of too many makes
		// its own exit status.
		const most = 9000 - 2 // which a supervisor adds
		if len(argv)-1 > most {
			return launch{}, cannotRun(opt.argv[0], fmt.Errorf("bubblewrap takes no more than %d arguments: %w", most, unix.E2BIG))
		}
		return launch{path: bwrap, argv: argv, files: box.files, env: []string{"PATH=" + search}, bwrap: true}, nil
	})
}
