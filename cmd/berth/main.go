// Command berth keeps several versions of runtimes side by side, upgrades
// them, and collects the old ones, never from under a program that runs.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

// version is set by the build.
var version = "unknown"

func main() { os.Exit(Main()) }

// Main runs the command of this process and returns its exit status.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), heeded(os.Interrupt, unix.SIGTERM, unix.SIGHUP)...)
	defer stop()
	a := newApp(os.Stdout, os.Stderr)
	return a.exit(a.run(ctx, os.Args))
}

// heeded leaves out the signals that we were started to ignore, by nohup(1) or
// as a shell's background job: to ask for one would end that, and the command
// that we become would die of it.
func heeded(signals ...os.Signal) []os.Signal { return slices.DeleteFunc(signals, signal.Ignored) }
