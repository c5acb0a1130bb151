package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// app is one run of the command: where it writes, and what its global flags
// say.
type app struct {
	out, err io.Writer
	// Whether a person reads them.
	outTerminal, errTerminal bool
	errWidth                 func() int // columns

	storeDir, configFile string
	user, system         bool
	json, quiet, verbose bool

	removing *meter // of what is deleted, while somebody wants to know
}

func newApp(out, err *os.File) *app {
	return &app{
		out: out, err: err,
		outTerminal: term.IsTerminal(int(out.Fd())),
		errTerminal: term.IsTerminal(int(err.Fd())),
		errWidth: func() int {
			if width, _, err := term.GetSize(int(err.Fd())); err == nil && width > 0 {
				return width
			}
			return 80
		},
	}
}

func (a *app) run(ctx context.Context, args []string) error {
	c := a.commands()
	args, cmd := arrange(c, args)
	// What becomes another program leaves the signals as they are: there is
	// nothing to clean up, and the sooner it starts the better.
	if cmd == nil || !passesOn(cmd) {
		var stop context.CancelFunc
		ctx, stop = interruptible(ctx)
		defer stop()
	}
	// What prints the help and the version drops the error.
	out := &printer{w: a.out}
	c.Writer = out
	err := c.RunContext(ctx, args)
	// Of no command but help, which is the parser's.
	if unknown := cli.ExitCoder(nil); cmd == nil && errors.As(err, &unknown) {
		err = usageError(fmt.Sprintf("there is no command %q", args[len(args)-1]))
	}
	if err != nil || out.err == nil {
		return err
	}
	return fmt.Errorf("cannot print: %w", out.err)
}

// A printer remembers the first error of its writer.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) Write(text []byte) (int, error) {
	n, err := p.w.Write(text)
	if p.err == nil {
		p.err = err
	}
	return n, err
}

func (a *app) commands() *cli.App {
	return &cli.App{
		Name:            "berth",
		Usage:           "keep, switch and collect versions of runtimes, never from under a program that runs",
		Version:         version,
		HideHelpCommand: false,
		Writer:          a.out,
		ErrWriter:       a.err,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "store", Usage: "work on the store in `DIR`", EnvVars: []string{"BERTH_STORE"}, Destination: &a.storeDir},
			&cli.BoolFlag{Name: "user", Usage: "work on your own store", Destination: &a.user},
			&cli.BoolFlag{Name: "system", Usage: "work on the system's store", Destination: &a.system},
			&cli.StringFlag{Name: "config", Usage: "read the configuration from `FILE` alone", Destination: &a.configFile},
			&cli.BoolFlag{Name: "json", Usage: "print data as one JSON document", Destination: &a.json},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print errors and data only", Destination: &a.quiet},
			&cli.BoolFlag{Name: "verbose", Usage: "say more about what is done", Destination: &a.verbose},
		},
		Before: func(c *cli.Context) error {
			if a.user && a.system {
				return usageError("--user and --system exclude each other")
			}
			// An empty value is what a script has that failed to find it: no reason
			// to work on something else.
			// An empty variable is none.
			if value, env := os.LookupEnv("BERTH_STORE"); c.IsSet("store") && a.storeDir == "" && (!env || value != "") {
				return usageError("--store: the name of a directory is empty")
			}
			if c.IsSet("config") && a.configFile == "" {
				return usageError("--config: the name of a file is empty")
			}
			// The system's store is no substitute for somebody's own.
			if a.user && a.storeDir == "" && userStore() == "" {
				return usageError("--user: neither HOME nor XDG_DATA_HOME says where your own store is")
			}
			return nil
		},
		Commands: []*cli.Command{
			a.installCommand(), a.upgradeCommand(), a.listCommand(),
			a.switchCommand(), a.rollbackCommand(),
			a.removeCommand(), a.gcCommand(),
			a.pinCommand(), a.unpinCommand(),
			a.runCommand(), a.execCommand(), a.psCommand(),
			a.verifyCommand(), a.repairCommand(), a.doctorCommand(), a.duCommand(), a.packCommand(),
			a.versionCommand(), a.tryLockCommand(),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError(fmt.Sprintf("there is no command %q", c.Args().First()))
			}
			return cli.ShowAppHelp(c)
		},
		// The exit status is given in one place, after RunContext.
		ExitErrHandler: func(*cli.Context, error) {},
	}
}

// command completes what all commands have in common.
func command(c *cli.Command) *cli.Command {
	c.OnUsageError = badFlag
	c.HideHelpCommand = true
	return c
}

// note tells a person something that is no data.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, "berth: "+format+"\n", args...)
	}
}

// detail is a note for those who want to know more.
func (a *app) detail(format string, args ...any) {
	if a.verbose {
		a.note(format, args...)
	}
}
