// Command bench measures berth against the programs that people use for the
// same work: tar, bsdtar, cp -al, rm -rf, flatpak, bubblewrap. It takes turns
// (A B A B ...), after one round that does not count, and compares medians.
//
// A target that is missed is a row of the report, not a failure: the exit
// status is 1 only if something could not be run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	runtimes string        // has debian-12.0.tar.zst and debian-12.1.tar.zst
	work     string        // keeps what is derived from them
	fs       string        // where trees are unpacked
	docs     string        // gets benchmarks.md and benchmarks.svg; "" writes none
	rounds   int           // that count
	launches int           // of a short command, in place of rounds
	groups   []string      // none is all
	settle   time.Duration // after deletions
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == measureArgument {
		os.Exit(serveMeasure(os.Stdin, os.Stdout, os.Stderr))
	}
	opt := options{launches: 50, settle: 65 * time.Second}
	var groups string
	flag.StringVar(&opt.runtimes, "runtimes", "build/full", "`DIR` with the two runtimes, as test/runtime/build.sh makes them")
	flag.StringVar(&opt.work, "work", "build/bench", "`DIR` that keeps what is derived from the runtimes")
	flag.StringVar(&opt.fs, "fs", "", "`DIR` on the file system to measure on (default: the one of -work)")
	flag.StringVar(&opt.docs, "docs", "", "write benchmarks.md and benchmarks.svg to `DIR`")
	flag.StringVar(&groups, "rows", "", "only these, separated by commas: "+strings.Join(groupNames(), ", "))
	flag.IntVar(&opt.rounds, "n", 5, "rounds that count")
	flag.Parse()
	if groups != "" {
		opt.groups = strings.Split(groups, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opt, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, opt options, args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case opt.rounds < 1:
		return fmt.Errorf("-n %d: at least one round has to count", opt.rounds)
	}
	for _, name := range opt.groups {
		if !slices.Contains(groupNames(), name) {
			return fmt.Errorf("-rows: no %q: there are %s", name, strings.Join(groupNames(), ", "))
		}
	}
	if err := needPrograms(); err != nil {
		return err
	}
	b, err := newBench(ctx, opt)
	if err != nil {
		return err
	}
	defer b.close()
	machine, err := lookAtMachine(ctx, b)
	if err != nil {
		return err
	}
	rep := report{machine: machine, rounds: opt.rounds, launches: opt.launches, date: time.Now()}
	if err := b.measureAll(&rep); err != nil {
		return err
	}
	if err := rep.text(os.Stdout); err != nil {
		return err
	}
	if opt.docs == "" {
		return nil
	}
	return rep.write(filepath.Join(opt.docs, "benchmarks.md"), filepath.Join(opt.docs, "benchmarks.svg"))
}
