package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"berth/config"
)

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	if a.outTerminal {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// table prints rows: aligned under a heading for a person, else one row a
// line with tabs between the cells.
func (a *app) table(to io.Writer, terminal bool, heading []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if !terminal {
		for _, row := range rows {
			if _, err := fmt.Fprintln(to, strings.Join(row, "\t")); err != nil {
				return fmt.Errorf("cannot print: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// The colours of states. Cells in colour stand last in their row, because a
// table counts the letters of the others.
const (
	green  = "32"
	yellow = "33"
	red    = "31"
)

func (a *app) colour(terminal bool, code, text string) string {
	if !terminal || os.Getenv("NO_COLOR") != "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func size(n int64) string { return config.FormatSize(n) }

// age says how long ago something was, roughly.
func age(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// safe quotes untrusted text if a terminal could take it for something else.
func safe(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) >= 0 {
		return strconv.Quote(text)
	}
	return text
}

// oneArg is the only argument of a command.
func oneArg(c *cli.Context, what string) (string, error) {
	switch c.NArg() {
	case 0:
		return "", usageError("say " + what)
	case 1:
		return c.Args().First(), nil
	}
	return "", usageError(fmt.Sprintf("%q is one argument too many", c.Args().Get(1)))
}

// nameOrNone is the name of a runtime that a command may have: "" if it has
// none.
func nameOrNone(c *cli.Context) (string, error) {
	if c.NArg() == 0 {
		return "", nil
	}
	name, err := oneArg(c, "which runtime")
	if err != nil {
		return "", err
	}
	return name, checkNames([]string{name})
}

// noArgs refuses arguments.
func noArgs(c *cli.Context) error {
	if c.Args().Present() {
		return usageError(fmt.Sprintf("%q is one argument too many", c.Args().First()))
	}
	return nil
}
