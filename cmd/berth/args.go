package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"berth/store"
)

// arrange puts flags where the flag parser looks for them: the global ones
// before the command, the command's own before its arguments. It stops reading
// flags at "--", and for run and exec at the ref, because what follows is
// somebody else's command line. cmd is nil if no command is named.
func arrange(c *cli.App, args []string) (arranged []string, cmd *cli.Command) {
	var global, own, rest []string
	own = args[:0:0]
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			switch {
			case cmd == nil:
				if cmd = c.Command(arg); cmd == nil {
					// For the parser to say that there is no such command.
					return slices.Concat(args[:1], global, args[i:]), nil
				}
			case passesOn(cmd) && len(rest) == 0:
				rest = append(rest, args[i:]...)
				i = len(args)
			default:
				rest = append(rest, arg)
			}
			continue
		}
		to := &own
		flag := findFlag(c.Flags, arg)
		if flag != nil || cmd == nil {
			to = &global
		} else {
			flag = findFlag(cmd.Flags, arg)
		}
		*to = append(*to, arg)
		if takesValue(flag) && !strings.Contains(arg, "=") {
			if i++; i == len(args) {
				// For the parser to say so: what is arranged behind the flag
				// would be its value.
				if to == &own {
					return []string{args[0], cmd.Name, arg}, cmd
				}
				return []string{args[0], arg}, cmd
			}
			*to = append(*to, args[i])
		}
	}
	if cmd == nil {
		return slices.Concat(args[:1], global, rest), nil
	}
	// The parser would take an argument for the topic.
	if slices.Contains(own, "--help") || slices.Contains(own, "-h") {
		return []string{args[0], cmd.Name, "--help"}, cmd
	}
	return slices.Concat(args[:1], global, []string{cmd.Name}, own, []string{"--"}, rest), cmd
}

func passesOn(cmd *cli.Command) bool { return cmd.Name == "run" || cmd.Name == "exec" }

func findFlag(flags []cli.Flag, arg string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	if f == nil {
		return false
	}
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}

// badFlag says what is wrong with a flag, and writes it as we do: the parser's
// own errors have one dash, whatever was given.
func badFlag(_ *cli.Context, err error, _ bool) error {
	dash := regexp.MustCompile(`^(flag provided but not defined: |flag needs an argument: |invalid value "[^"]*" for flag |invalid boolean value "[^"]*" for )-([^-]{2})`)
	return usageError(dash.ReplaceAllString(err.Error(), "$1--$2"))
}

// checkNames refuses what can be no name of a runtime.
func checkNames(names []string) error {
	for _, name := range names {
		if !store.ValidName(name) {
			return fmt.Errorf("%w: %q is no name of a runtime", store.ErrBadRef, name)
		}
	}
	return nil
}
