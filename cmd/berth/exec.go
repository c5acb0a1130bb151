package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"berth/store"
)

type execOptions struct {
	ref       store.Ref
	argv      []string
	supervise bool
}

const superviseUsage = "stay until the last descendant has ended, also of those that close the lock"

func (a *app) execCommand() *cli.Command {
	var opt execOptions
	return command(&cli.Command{
		Name:      "exec",
		Usage:     "run any command under a read lock of a version",
		ArgsUsage: "REF COMMAND [ARGUMENT...]",
		Description: `For launchers that bring their own container: the command finds the version
in BERTH_REF, its files in BERTH_FILES and the locked descriptor in
BERTH_LOCK_FD. The version stays for as long as any process has a copy of that
descriptor. The exit status is the command's.

Example: berth exec sniper ./launcher --runtime /path`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "supervise", Usage: superviseUsage, Destination: &opt.supervise},
		},
		Action: func(c *cli.Context) error {
			if err := opt.parse(c); err != nil {
				return err
			}
			return a.runExec(c.Context, opt)
		},
	})
}

func (opt *execOptions) parse(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		return usageError("say which version to run on, and what")
	}
	var err error
	if opt.ref, err = store.ParseRef(args[0]); err != nil {
		return err
	}
	opt.argv = args[1:]
	if len(opt.argv) > 0 && opt.argv[0] == "--" {
		opt.argv = opt.argv[1:]
	}
	if len(opt.argv) == 0 {
		return usageError("say which command to run on " + args[0])
	}
	return nil
}

func (a *app) runExec(ctx context.Context, opt execOptions) error {
	return a.underHold(ctx, opt, func(h *store.Hold) (launch, error) {
		path, err := exec.LookPath(opt.argv[0])
		if err != nil && !errors.Is(err, exec.ErrDot) { // which shells do not mind
			return launch{}, cannotRun(opt.argv[0], err)
		}
		return launch{path: path, argv: opt.argv, files: h.Files()}, nil
	})
}

// cannotRun gives the status that a shell gives.
func cannotRun(command string, err error) error {
	status := exitNotRunnable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		status = exitNoCommand
	}
	var path *exec.Error
	if errors.As(err, &path) {
		err = path.Err
	}
	return &statusError{status, fmt.Errorf("cannot run %q: %w", command, err)}
}

// A launch is a program to execute, and where it finds the held files.
type launch struct {
	path  string
	argv  []string
	files string
	env   []string // beside the caller's, and over it
	bwrap bool     // it is bwrap(1), and the command a child of that
}

// sets tells whether the launch gives a variable of the caller another value.
func (l launch) sets(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return name == "BERTH_REF" || name == "BERTH_FILES" || name == "BERTH_LOCK_FD" ||
		slices.ContainsFunc(l.env, func(own string) bool { return strings.HasPrefix(own, name+"=") })
}

// underHold takes a hold on the version, and asks prepare what to execute on
// it.
func (a *app) underHold(ctx context.Context, opt execOptions, prepare func(*store.Hold) (launch, error)) error {
	return a.inFirst(opt.ref, func(s *store.Store) error {
		held, err := s.Hold(ctx, opt.ref)
		if err != nil {
			return err
		}
		defer held.Release()
		return a.launch(ctx, opt, s, held, prepare)
	})
}

// launch becomes what prepare makes, or supervises it.
func (a *app) launch(ctx context.Context, opt execOptions, from *store.Store, held *store.Hold, prepare func(*store.Hold) (launch, error)) error {
	l, err := prepare(held)
	if err != nil {
		return err
	}
	fd, err := held.Inherit()
	if err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(set string) bool { return l.sets(set) })
	env = append(append(env, l.env...),
		"BERTH_REF="+held.Ref.String(),
		"BERTH_FILES="+l.files,
		"BERTH_LOCK_FD="+strconv.Itoa(fd),
	)
	if opt.supervise {
		return a.superviseHeld(ctx, from, held, l, env)
	}
	if err := unix.Exec(l.path, l.argv, env); err != nil {
		return cannotRun(l.argv[0], err)
	}
	return nil
}
