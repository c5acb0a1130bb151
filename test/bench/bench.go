package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The refs of the two runtimes.
const (
	oldVersion = "12.0"
	newVersion = "12.1"
	oldRef     = "debian@" + oldVersion
	newRef     = "debian@" + newVersion
)

// A bench has what all measurements need.
type bench struct {
	ctx context.Context
	options
	in       inputs
	berth    string   // the program, built as it is released
	revision string   // of the program
	scratch  string   // on the file system to measure on; deleted at the end
	env      []string // of every command
	trees    int      // that a round of the group has on the disk at once, at most
}

func newBench(ctx context.Context, opt options) (*bench, error) {
	b := &bench{ctx: ctx, options: opt}
	in, err := openInputs(ctx, opt.runtimes, opt.work)
	if err != nil {
		return nil, err
	}
	b.in = in
	if b.fs == "" {
		b.fs = in.dir
	}
	if b.scratch, err = os.MkdirTemp(b.fs, "berth-bench."); err != nil {
		return nil, err
	}
	if b.scratch, err = filepath.Abs(b.scratch); err != nil {
		return nil, err
	}
	if err := b.prepare(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() { os.RemoveAll(b.scratch) }

func (b *bench) prepare() error {
	home := filepath.Join(b.scratch, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.scratch, "config.toml"), nil, 0o644); err != nil {
		return err
	}
	b.env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8", "HOME=" + home, "TMPDIR=" + b.scratch,
	}
	b.revision = "unknown"
	if out, err := exec.CommandContext(b.ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		b.revision = strings.TrimSpace(string(out))
	}
	b.berth = filepath.Join(b.scratch, "berth")
	build := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-tags", "urfave_cli_no_docs",
		"-ldflags", "-s -w -X main.version="+b.revision, "-o", b.berth, "berth/cmd/berth")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build berth: %w: %s", err, out)
	}
	return nil
}

// A contender is one way to do a piece of work. Its directory is new in every
// round.
type contender struct {
	name    string
	reads   []string                  // archives, to be in the page cache
	prepare func(dir string) error    // not timed
	command func(dir string) []string // timed
	after   func(dir string) error    // looks whether the work was done
	capture bool                      // keep what is printed, as dir/stdout
}

// measured is what a contender needed, one sample a round.
type measured struct {
	group, name, command string
	samples              []sample
}

// berthArgs is a command line of berth for the store in a round's directory.
func (b *bench) berthArgs(dir string, args ...string) []string {
	return slices.Concat([]string{b.berth, "--config", filepath.Join(b.scratch, "config.toml"),
		"--store", filepath.Join(dir, "store")}, args)
}

// compare measures the contenders in turn, after a round that does not count.
func (b *bench) compare(group string, contenders ...contender) ([]measured, error) {
	results := make([]measured, len(contenders))
	top := filepath.Join(b.scratch, "rounds")
	if err := b.rest(); err != nil {
		return nil, err
	}
	for round := range b.rounds + 1 {
		if round == 0 {
			b.say("%s: the round that does not count", group)
		} else {
			b.say("%s: round %d of %d", group, round, b.rounds)
		}
		if round > 0 && b.needSpace() != nil {
			if err := b.discard(top); err != nil {
				return nil, err
			}
			if err := b.rest(); err != nil {
				return nil, err
			}
		}
		for i, c := range contenders {
			dir := filepath.Join(top, fmt.Sprint(round), fmt.Sprint(i))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
			s, err := b.once(c, dir)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", group, c.name, err)
			}
			results[i].group, results[i].name = group, c.name
			results[i].command = b.abbreviate(dir, c.command(dir))
			if round > 0 {
				results[i].samples = append(results[i].samples, s)
			}
		}
	}
	return results, b.discard(top)
}

func (b *bench) once(c contender, dir string) (s sample, err error) {
	if c.prepare != nil {
		if err := c.prepare(dir); err != nil {
			return s, fmt.Errorf("cannot prepare: %w", err)
		}
	}
	for _, path := range c.reads {
		if err := readAll(path); err != nil {
			return s, err
		}
	}
	// What the run before has written must not be written during this one.
	if err := b.sync(); err != nil {
		return s, err
	}
	req := request{Commands: [][]string{c.command(dir)}, Times: 1}
	if c.capture {
		req.Stdout = filepath.Join(dir, "stdout")
	}
	samples, err := ask(b.ctx, b.env, req)
	if err != nil {
		return s, err
	}
	if c.after != nil {
		if err := c.after(dir); err != nil {
			return s, fmt.Errorf("the work was not done: %w", err)
		}
	}
	return samples[0][0], nil
}

// discard deletes what rounds have left.
func (b *bench) discard(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return b.sync()
}

// rest waits until an ext4 without a journal uses again what was deleted. For
// a minute it does not, and searches past each such inode whenever it makes a
// file (recently_deleted in fs/ext4/ialloc.c), which takes several times as
// long.
func (b *bench) rest() error {
	if err := b.sync(); err != nil {
		return err
	}
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(b.settle):
		return nil
	}
}

func (b *bench) sync() error {
	dir, err := os.Open(b.scratch)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("cannot sync the file system: %w", err)
	}
	return nil
}

// do runs a command that is not measured.
func (b *bench) do(argv ...string) error {
	_, err := ask(b.ctx, b.env, request{Commands: [][]string{argv}, Times: 1})
	return err
}

// abbreviate shows a command without the places of this machine.
func (b *bench) abbreviate(dir string, argv []string) string {
	if argv[0] == "env" {
		argv = argv[slices.IndexFunc(argv[1:], func(s string) bool { return !strings.Contains(s, "=") })+1:]
	}
	var words []string
	for _, word := range argv {
		if strings.Contains(word, " ") {
			word = "'" + word + "'"
		}
		if _, err := hex.DecodeString(word); err == nil && len(word) == 64 {
			word = "HEX"
		}
		words = append(words, word)
	}
	line := strings.Join(words, " ")
	return strings.NewReplacer(
		b.berth+" --config "+filepath.Join(b.scratch, "config.toml"), "berth",
		dir, "DIR",
		b.scratch+"/", "", // which may be in the next one
		b.in.dir+"/", "",
		b.in.runtimes+"/", "",
	).Replace(line)
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// needSpace refuses early what would fail in the middle of a round.
func (b *bench) needSpace() error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.scratch, &st); err != nil {
		return fmt.Errorf("cannot see how much space is free: %w", err)
	}
	need := int64(b.trees) * b.in.size * 5 / 4
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%s has %s free, and %s are needed", b.fs, mib(free), mib(need))
	}
	return nil
}

func readAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

func gone(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is still there", path)
	}
	return nil
}

// warm has the page cache take a whole directory.
func warm(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return readAll(path)
	})
}
