// Command berth keeps several versions of runtimes side by side, upgrades
// them, and collects the old ones, never from under a program that runs.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// version is set by the build.
var version = "unknown"

func main() { os.Exit(Main()) }

// Main runs the command of this process and returns its exit status.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	a := newApp(os.Stdout, os.Stderr)
	return a.exit(a.run(ctx, os.Args))
}
