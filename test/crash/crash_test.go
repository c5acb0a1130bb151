package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A scenario is one command on a world.
type scenario struct {
	name    string
	prepare func(w *world) // nil: the world as it is
	args    func(w *world) []string
	held    string // the version that a program runs on meanwhile
	// again are the exit statuses beside 0 that a second run may have, where
	// the first has done its work.
	again []int
}

func scenarios() []scenario {
	args := func(list ...string) func(*world) []string { return func(*world) []string { return list } }
	archive := func(version string, flags ...string) func(*world) []string {
		return func(w *world) []string {
			return append([]string{"install", w.path("channel/demo-" + version + ".tar")}, flags...)
		}
	}
	return []scenario{
		{name: "install the first", prepare: func(w *world) { w.shell("rm -r store") }, args: archive("1")},
		{name: "install", args: archive("3"), held: "1"},
		{name: "install --switch", args: archive("3", "--switch"), held: "1"},
		{name: "install --force", args: archive("1", "--force"), held: "2"},
		{name: "upgrade", args: args("upgrade"), held: "2"},
		{name: "switch", args: args("switch", "demo@1")},
		{name: "rollback", args: args("rollback", "demo"), again: []int{0}},
		{name: "remove", args: args("remove", "demo@1"), held: "2", again: []int{66}},
		{name: "remove all", args: args("remove", "demo", "--all"), again: []int{66}},
		{name: "remove --defer", args: args("remove", "--defer", "demo@1"), held: "1"},
		{name: "gc", args: args("gc"), held: "2", prepare: func(w *world) {
			for _, version := range []string{"0.1", "0.2"} {
				if status, said := w.run("install", w.path("channel/demo-3.tar"), "--as", "demo@"+version, "--no-sync"); status != 0 {
					w.t.Fatal(said)
				}
			}
			w.shell("mv store/runtimes/demo/0.2 store/trash/demo@0.2.abcdefgh")
		}},
		{name: "pin", args: args("pin", "demo@1")},
		{name: "unpin", args: args("unpin", "demo@1"), prepare: func(w *world) { w.shell(": >store/runtimes/demo/1/keep") }},
		{name: "repair", args: args("repair", "demo@1"), held: "2", prepare: func(w *world) {
			w.shell("cd store/runtimes/demo/1/files; rm bin/tool1 lib/same3; echo >extra")
		}},
		{name: "repair of the lock", args: args("repair", "demo@1"), prepare: func(w *world) {
			w.shell("rm store/runtimes/demo/1/files/.ref")
		}},
	}
}

var errnos = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.EROFS}

func TestKilledOrFailingAtEverySystemCall(t *testing.T) {
	template := newWorld(t, filepath.Join(disk, "template"))
	for i, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := template.copyTo(t, filepath.Join(disk, fmt.Sprint("scenario", i)))
			if s.prepare != nil {
				s.prepare(w)
			}
			r := &run{t: t, scenario: s, template: w}
			r.reference()
			for point := 1; r.try(point, 0); point++ {
				killed.Add(1)
			}
			for point := 1; ; point++ {
				list := errnos
				if !*long {
					list = errnos[point%len(errnos):][:1]
				}
				hit := false
				for _, errno := range list {
					if r.try(point, errno) {
						hit = true
						failed.Add(1)
					}
				}
				if !hit {
					break
				}
			}
			t.Logf("%d points", r.most)
		})
	}
}

// A run tries the points of a scenario.
type run struct {
	t *testing.T
	scenario
	template     *world
	before, done string // the store's states
	broken       []string
	most         int
}

// reference runs the command undisturbed.
func (r *run) reference() {
	w := r.template.copyTo(r.t, r.template.dir+"-reference")
	defer os.RemoveAll(w.dir)
	r.before, r.broken, _ = w.look()
	if r.held != "" {
		defer w.hold(r.held).Close()
	}
	if status, said := w.run(r.args(w)...); status != 0 {
		r.t.Fatalf("undisturbed: exit status %d\n%s", status, said)
	}
	var problems, left []string
	r.done, problems, left = w.look()
	if len(problems)+len(left) > 0 {
		r.t.Fatalf("undisturbed: %q, left %q", problems, left)
	}
}

// try runs the command up to a point, and tells whether there was one.
func (r *run) try(point int, errno syscall.Errno) bool {
	w := r.template.copyTo(r.t, fmt.Sprintf("%s-%d-%d", r.template.dir, point, errno))
	defer os.RemoveAll(w.dir)
	outside := w.outside()
	var holder *os.File
	if r.held != "" {
		holder = w.hold(r.held)
		defer holder.Close()
	}
	args := r.args(w)
	o, err := trace(w.command(args...), point, errno)
	if err != nil {
		r.t.Fatalf("cannot trace: %v", err)
	}
	r.most = max(r.most, o.calls)
	if !o.hit {
		return false
	}
	wrong := func(format string, args ...any) {
		violations.Add(1)
		r.t.Errorf("%s, point %d, %s %v: %s\n%s", r.name, point, o.at, errno, fmt.Sprintf(format, args...), o.stderr)
	}
	state, problems, _ := w.look()
	for _, p := range problems {
		if !r.expected(w, p) {
			wrong("%s", p)
		}
	}
	if w.outside() != outside {
		wrong("something outside the store has changed")
	}
	if errno != 0 {
		r.judge(o, state, wrong)
	}
	status, said := w.run(args...)
	if status != 0 && !slices.Contains(r.again, status) {
		wrong("once more: exit status %d: %s", status, said)
	}
	// What the scenario leaves to somebody else is his: a collection ends it.
	state, problems, left := w.look()
	if len(problems) > 0 {
		wrong("once more: %q", problems)
	}
	if len(left) > 0 {
		wrong("once more: left %q", left)
	}
	if state != r.done && r.name != "rollback" {
		wrong("once more: %s, not %s", state, r.done)
	}
	return true
}

// expected tells whether a problem was there on purpose.
func (r *run) expected(w *world, problem string) bool {
	return slices.ContainsFunc(r.broken, func(known string) bool {
		return strings.TrimPrefix(known, r.template.dir) == strings.TrimPrefix(problem, w.dir)
	})
}

// judge looks at what the command said of a call that failed.
func (r *run) judge(o *outcome, state string, wrong func(string, ...any)) {
	switch o.status {
	case 0:
		if state != r.done {
			wrong("exit status 0, but it is %s, not %s", state, r.done)
		}
		return
	case 73, 74, 75, 77:
	default:
		wrong("exit status %d", o.status)
	}
	if !strings.Contains(o.stderr, "demo") && !strings.Contains(o.stderr, "store") {
		wrong("it does not say what failed")
	}
}
