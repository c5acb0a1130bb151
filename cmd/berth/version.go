package main

import (
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"
)

func (a *app) versionCommand() *cli.Command {
	return command(&cli.Command{
		Name:        "version",
		Usage:       "print the version of berth",
		Description: "Example: berth version --json",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{
					"version": version, "go": runtime.Version(), "arch": runtime.GOARCH,
				})
			}
			if _, err := fmt.Fprintf(a.out, "berth %s (%s, %s)\n", version, runtime.Version(), runtime.GOARCH); err != nil {
				return fmt.Errorf("cannot print: %w", err)
			}
			return nil
		},
	})
}
