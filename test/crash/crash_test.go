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

var errnos = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.EROFS}

func TestKilledOrFailingAtEverySystemCall(t *testing.T) {
	template := newWorld(t)
	for i, s := range scenarios() {
		if s.sighted != (os.Getenv(inside) == sighted) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := template.copyTo(t, filepath.Join(disk, fmt.Sprint("scenario", i)))
			if s.prepare != nil {
				s.prepare(w)
			}
			r := &run{t: t, scenario: s, template: w}
			r.reference()
			// How many calls a run makes can differ by a few.
			for point := 1; point <= r.most; point++ {
				if r.try(point, 0) {
					killed.Add(1)
				}
			}
			for point := 1; point <= r.most; point++ {
				list := errnos
				if !*long {
					list = errnos[(point+i)%len(errnos):][:1]
				}
				for _, errno := range list {
					if r.try(point, errno) {
						failed.Add(1)
					}
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
	before, done *state
	most         int // calls that a whole run made
}

// reference runs the command undisturbed.
func (r *run) reference() {
	w := r.template.copyTo(r.t, r.template.dir+"-reference")
	defer os.RemoveAll(w.dir)
	r.before = w.look()
	if r.held != "" {
		defer w.hold(r.held).release()
	}
	o, err := trace(w.command(r.args...), 0, 0)
	if err != nil || o.status != 0 {
		r.t.Fatalf("undisturbed: %v, exit status %d\n%s", err, o.status, o.stderr)
	}
	if o.calls == 0 {
		r.t.Fatal("undisturbed: no system call was counted")
	}
	r.most, r.done = o.calls, w.look()
	if len(r.done.problems)+len(r.done.left) > 0 {
		r.t.Fatalf("undisturbed: %q, left %q", r.done.problems, r.done.left)
	}
}

// try runs the command up to a point, and tells whether there was one.
func (r *run) try(point int, errno syscall.Errno) bool {
	w := r.template.copyTo(r.t, fmt.Sprintf("%s-%d-%d", r.template.dir, point, errno))
	defer os.RemoveAll(w.dir)
	tree, outside := w.tree(r.rebuilt), w.outside()
	var h *holder
	if r.held != "" {
		h = w.hold(r.held)
		defer h.release()
	}
	o, err := trace(w.command(r.args...), point, errno)
	if err != nil {
		r.t.Fatalf("cannot trace: %v", err)
	}
	if !o.hit {
		r.most = max(r.most, o.calls)
		return false
	}
	how := "killed"
	if errno != 0 {
		how = fmt.Sprintf("failing with %v, exit status %d", errno, o.status)
	}
	wrong := func(format string, args ...any) {
		violations.Add(1)
		r.t.Errorf("%s, point %d, %s %s: %s\n%s", r.name, point, o.at, how, fmt.Sprintf(format, args...), o.stderr)
	}
	promises := func() *state {
		now := w.look()
		r.between(now, wrong)
		if h != nil {
			for _, p := range h.loses() {
				wrong("a program that runs on %s: %s", r.held, p)
			}
		}
		if w.outside() != outside {
			wrong("something outside the store has changed")
		}
		return now
	}
	now := promises()
	if errno != 0 {
		r.judge(o, errno, now, wrong)
		if o.status == 0 && r.rebuilt != "" && w.tree(r.rebuilt) == tree {
			wrong("it is the same tree still")
		}
	} else if *long {
		// The first to find it is killed too, and somewhere else every time.
		second, err := trace(w.command(r.args...), 1+point*7%r.most, 0)
		if err != nil {
			r.t.Fatalf("cannot trace: %v", err)
		}
		if second.hit {
			killed.Add(1)
		}
		now = promises()
	}
	want := r.done
	if r.toggles && now.equal(r.done) {
		want = r.before
	}
	status, said := w.run(r.args...)
	if status != 0 && !(slices.Contains(r.again, status) && now.equal(r.done)) {
		wrong("once more: exit status %d: %s", status, said)
	}
	now = promises()
	if !now.equal(want) || len(now.left)+len(now.problems) > 0 {
		wrong("once more: %s, not %s; left %q, %q\n%s", now, want, now.left, now.problems, said)
	}
	return true
}

// between looks that a state is one on the way from the first to the last.
func (r *run) between(now *state, wrong func(string, ...any)) {
	for _, p := range slices.Concat(now.problems, now.trash) {
		if !slices.ContainsFunc(r.broken, func(known string) bool { return strings.HasPrefix(p, known) }) {
			wrong("%s", p)
		}
	}
	if now.current != r.before.current && now.current != r.done.current {
		wrong("%q is current", now.current)
	}
	for v, marks := range now.versions {
		was, old := r.before.versions[v]
		will, new := r.done.versions[v]
		if !(old && marks == was) && !(new && marks == will) {
			wrong("%s%s is listed", v, marks)
		}
	}
	for v := range r.before.versions {
		if _, stays := r.done.versions[v]; !stays {
			continue
		}
		if _, listed := now.versions[v]; !listed {
			wrong("%s is not listed", v)
		}
	}
}

// judge looks at what the command said of a call that failed.
func (r *run) judge(o *outcome, errno syscall.Errno, now *state, wrong func(string, ...any)) {
	said := r.says(o.stderr, errno)
	switch {
	case o.status == 0:
		if !now.equal(r.done) || len(now.problems) > 0 {
			wrong("it is %s, not %s, %q", now, r.done, now.problems)
		}
		if len(now.left) > 0 && !said {
			wrong("left %q, and nothing is said of it", now.left)
		}
		if o.unsynced != "" && !said {
			wrong("what it has done may be undone by a power cut, and nothing is said of it")
		}
		return
	case o.status == 74, o.status == 73 && errno == syscall.EROFS:
	default:
		wrong("another exit status")
	}
	if !said {
		wrong("it does not say what failed")
	}
}

// says tells whether a message has the error in it, and a ref or a file.
func (r *run) says(said string, errno syscall.Errno) bool {
	return strings.Contains(said, errno.Error()) && (strings.Contains(said, "demo") || strings.Contains(said, r.template.dir))
}
