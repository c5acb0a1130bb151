package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/test/check"
)

// An op is one change of the store.
type op struct {
	args []string
	// again are the exit statuses that it may have when it is run once more
	// after a power cut in it, beside 0.
	again []int
	// known is what was wrong with the store before, on purpose.
	known []string
	// after, if not nil, is run when it has ended.
	after func()
}

// A cut is a copy of the disk from the run of an op.
type cut struct {
	image string
	op    op
	acked bool // the op had ended with exit status 0
	into  time.Duration
	// What a look at the running machine shows before and after the op.
	before, after state
}

func (c *cut) String() string {
	when := "during"
	if c.acked {
		when = "after the end of"
	}
	return fmt.Sprintf("cut %s %s %q", c.into.Round(100*time.Microsecond), when, strings.Join(c.op.args, " "))
}

// A session is the life of one disk, from mkfs to its last cut.
type session struct {
	t      *testing.T
	random *rand.Rand
	disk   *disk
	store  string
	work   string // archives, the channel and the configuration, on another disk
	next   int    // no version as great has been made
	took   map[string]time.Duration
	cuts   []*cut
}

func newSession(t *testing.T, d *disk, random *rand.Rand) *session {
	t.Helper()
	s := &session{t: t, random: random, disk: d, work: t.TempDir(), next: 1, took: make(map[string]time.Duration)}
	s.store = filepath.Join(d.at, "store")
	config := fmt.Sprintf("[gc]\nkeep = 1\ngrace = \"0s\"\n[runtime.%s]\nsource = %q\n", name, s.channel())
	if err := os.WriteFile(filepath.Join(s.work, "config.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.channel(), 0o755); err != nil {
		t.Fatal(err)
	}
	d.insert(t, d.image)
	return s
}

func (s *session) channel() string { return filepath.Join(s.work, "channel") }

func (s *session) archive(version, build string) string {
	s.t.Helper()
	return archive(s.t, s.work, version, build)
}

func (s *session) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--config", filepath.Join(s.work, "config.toml"), "--store", s.store}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.work, "XDG_DATA_HOME=", "XDG_CONFIG_HOME="+s.work)
	cmd.Dir = s.work
	return cmd
}

// run runs the command to its end.
func (s *session) run(args ...string) (status int, said string) {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("cannot run berth %q: %v", args, err)
	}
	if exit != nil {
		status = exit.ExitCode()
	}
	return status, string(out)
}

func (s *session) look() state {
	s.t.Helper()
	seen, err := look(s.store)
	if err != nil {
		s.t.Fatal(err)
	}
	return seen
}

// play runs ops until n cuts have been taken.
func (s *session) play(n int, choose func(state) op) {
	s.t.Helper()
	for len(s.cuts) < n && !s.t.Failed() {
		before := s.look()
		s.perform(before, choose(before), min(1+s.random.IntN(3), n-len(s.cuts)))
	}
}

// perform runs one op, and cuts the power at some moments of it, or a little
// later.
func (s *session) perform(before state, o op, n int) {
	s.t.Helper()
	took := s.took[o.args[0]]
	if took == 0 {
		took = 100 * time.Millisecond
	}
	moments := make([]time.Duration, n)
	for i := range moments {
		moments[i] = time.Duration(s.random.Float64() * 1.2 * float64(took))
	}
	slices.Sort(moments)

	var out bytes.Buffer
	cmd := s.command(o.args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	started := time.Now()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	var ended time.Duration
	go func() {
		err := cmd.Wait()
		ended = time.Since(started)
		done <- err
	}()
	var result error
	acked := false
	var taken []*cut
	for _, moment := range moments {
		pause := time.NewTimer(moment - time.Since(started))
		if !acked {
			select {
			case result = <-done:
				acked = true
				<-pause.C
			case <-pause.C:
				select {
				case result = <-done:
					acked = true
				default:
				}
			}
		} else {
			<-pause.C
		}
		c := &cut{op: o, acked: acked, into: time.Since(started), before: before}
		c.image = s.disk.copy(s.t)
		taken = append(taken, c)
	}
	if !acked {
		result = <-done
	}
	if o.after != nil {
		o.after()
	}
	if result != nil && !(len(o.again) > 0 && slices.Contains(o.again, cmd.ProcessState.ExitCode())) {
		violation(s.t, "berth %q: %v\n%s", o.args, result, out.String())
		return
	}
	s.took[o.args[0]] = ended
	after := s.look()
	for _, c := range taken {
		c.after = after
	}
	s.cuts = append(s.cuts, taken...)
}

// judge starts the machine again with every copy. The disk itself is not
// needed any more: a copy has the same identity, and takes its place.
func (s *session) judge() {
	s.t.Helper()
	s.disk.eject(s.t)
	for i, c := range s.cuts {
		s.disk.insert(s.t, c.image)
		problems := s.broken(c)
		// A collector cannot judge what is damaged.
		gcFirst := i%2 == 0 && (c.acked || len(c.op.known) == 0)
		problems = append(problems, s.recover(c, gcFirst)...)
		s.disk.eject(s.t)
		if err := os.Remove(c.image); err != nil {
			s.t.Fatal(err)
		}
		count.Lock()
		count.cuts[s.disk.name]++
		count.Unlock()
		if len(problems) > 0 {
			violation(s.t, "%s, seed %d: %s:\n\t%s", s.disk.name, *seed, c, strings.Join(problems, "\n\t"))
		}
	}
}

// incomplete counts the copies in which a version is listed that is not whole.
func (s *session) incomplete() (found int) {
	s.t.Helper()
	s.disk.eject(s.t)
	for _, c := range s.cuts {
		s.disk.insert(s.t, c.image)
		problems := s.check()
		s.disk.eject(s.t)
		if err := os.Remove(c.image); err != nil {
			s.t.Fatal(err)
		}
		if len(problems) > 0 {
			found++
			s.t.Logf("%s: %s", c, problems[0])
		}
	}
	return found
}

// broken says which promises the copy breaks.
func (s *session) broken(c *cut) []string {
	s.t.Helper()
	problems := s.check()
	if !c.acked {
		problems = slices.DeleteFunc(problems, func(p string) bool { return slices.Contains(c.op.known, p) })
	}
	seen, err := look(s.store)
	if err != nil {
		return append(problems, err.Error())
	}
	if c.acked {
		return append(problems, seen.neither(c.after, c.after)...)
	}
	return append(problems, seen.neither(c.before, c.after)...)
}

// check asks the independent checker. What is not yet a store has no problems.
func (s *session) check() []string {
	if _, err := os.Lstat(filepath.Join(s.store, "store.toml")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	r, err := check.Store(s.store)
	if err != nil {
		return []string{err.Error()}
	}
	return r.Problems
}

// recover does what a person does after a power cut: the same again. A
// collection may come first.
func (s *session) recover(c *cut, gcFirst bool) (problems []string) {
	s.t.Helper()
	again := c.op.again
	if gcFirst {
		if status, said := s.run("gc"); status != 0 {
			problems = append(problems, fmt.Sprintf("gc: exit status %d: %s", status, said))
		}
		again = append([]int{66}, again...) // it may have been collected now
	}
	if status, said := s.run(c.op.args...); status != 0 && !slices.Contains(again, status) {
		problems = append(problems, fmt.Sprintf("the command again: exit status %d: %s", status, said))
	}
	if !gcFirst {
		problems = append(problems, s.leftovers("the command again")...)
		if status, said := s.run("gc"); status != 0 {
			problems = append(problems, fmt.Sprintf("gc: exit status %d: %s", status, said))
		}
	}
	for _, p := range s.check() {
		problems = append(problems, "in the end: "+p)
	}
	return append(problems, s.leftovers("all")...)
}

// leftovers looks for what no drain has taken.
func (s *session) leftovers(when string) (problems []string) {
	for _, part := range []string{"staging", "trash"} {
		list, err := os.ReadDir(filepath.Join(s.store, part))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			problems = append(problems, err.Error())
		}
		for _, e := range list {
			problems = append(problems, fmt.Sprintf("after %s: left in %s: %s", when, part, e.Name()))
		}
	}
	return problems
}

// hold keeps a version in use until the function it returns is called.
func (s *session) hold(version string) (end func()) {
	s.t.Helper()
	cmd := s.command("exec", name+"@"+version, "sh", "-c", "echo ready; read line || :")
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 6)); n == 0 {
		s.t.Errorf("the holder did not start: %v", err)
	}
	return func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("the holder: %v", err)
		}
	}
}

// damage changes a listed version as no program of ours does, for good.
func (s *session) damage(version string) (known []string) {
	s.t.Helper()
	files := filepath.Join(s.store, "runtimes", name, version, "files")
	var err error
	switch s.random.IntN(3) {
	case 0:
		err = os.Remove(filepath.Join(files, ".ref"))
	case 1:
		err = os.Remove(filepath.Join(files, "lib/d1/part3"))
	case 2:
		err = os.WriteFile(filepath.Join(files, "lib/d2/part4"), []byte("spoiled"), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	disk, err := os.Open(s.disk.at)
	if err != nil {
		s.t.Fatal(err)
	}
	defer disk.Close()
	if err := unix.Syncfs(int(disk.Fd())); err != nil {
		s.t.Fatal(err)
	}
	return s.check()
}
