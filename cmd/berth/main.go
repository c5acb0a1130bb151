// Command berth keeps several versions of runtimes side by side, upgrades
// them, and collects the old ones, never from under a program that runs.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// version is set by the build.
var version = "unknown"

func main() { os.Exit(Main()) }

// Main runs the command of this process and returns its exit status.
func Main() int {
	a := newApp(os.Stdout, os.Stderr)
	return a.exit(a.run(context.Background(), os.Args))
}

// interruptible is a context that ends with the signals that end programs. A
// later signal ends the program itself, because some waits are deaf to a
// context: that for the writer of a fifo, for instance. At first they pass,
// because timeout(1) sends every signal twice.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, heeded(os.Interrupt, unix.SIGTERM, unix.SIGHUP)...)
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	return ctx, stop
}

// heeded leaves out the signals that we were started to ignore, by nohup(1) or
// as a shell's background job: to ask for one would end that, and the command
// that we become would die of it.
func heeded(signals ...os.Signal) []os.Signal { return slices.DeleteFunc(signals, signal.Ignored) }
