package race

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A task is a change of the store, and the exit statuses that it may have
// beside 0.
type task struct {
	args     []string
	statuses []int
}

// why has, for each status that is no success, what the command then says.
var why = map[int]*regexp.Regexp{
	66: regexp.MustCompile(`: (not installed|no version is current|no other version has been current|to be removed once it is free)\n`),
	75: regexp.MustCompile(`: (in use by .*|.*locked by another( \(resource temporarily unavailable\))?|replaced meanwhile)\n`),
	77: regexp.MustCompile(`: (pinned|the current version.*)\n`),
}

// permits tells whether a task may end so.
func (t task) permits(got result) bool {
	if unseemly(got.stdout) || unseemly(got.stderr) {
		return false
	}
	return got.status == 0 || slices.Contains(t.statuses, got.status) && why[got.status].MatchString(got.stderr)
}

// installing may find that the version is there, but condemned, or being
// replaced.
var installing = []int{66, 75}

// naming names a version that others may just have removed, or be removing.
var naming = []int{66, 75}

// removing may find it protected as well.
var removing = []int{66, 75, 77}

// task chooses one change of the contested runtime.
func (a *arena) task(r *rand.Rand) task {
	v := pick(r, append([]string{newest}, versions...))
	some := ref(v)
	archive := a.archive(contested, v, pick(r, builds))
	switch r.IntN(26) {
	case 0, 1, 2, 3:
		return task{[]string{"install", archive}, nil}
	case 4, 5:
		return task{[]string{"install", "--switch", archive}, installing}
	case 6, 7:
		return task{[]string{"install", "--force", archive}, naming}
	case 8, 9:
		return task{[]string{"upgrade", contested}, installing}
	case 10, 11:
		return task{[]string{"switch", some}, naming}
	case 12:
		return task{[]string{"rollback", contested}, naming}
	case 13, 14, 22, 23:
		return task{[]string{"remove", some}, removing}
	case 15:
		return task{[]string{"remove", "--defer", some}, removing}
	case 16:
		return task{[]string{"pin", some}, naming}
	case 17, 24, 25:
		return task{[]string{"unpin", some}, naming}
	case 18:
		return task{[]string{"repair", some}, naming}
	case 19:
		return task{[]string{"gc", "--keep", "0", contested}, naming}
	case 20:
		return task{[]string{"list"}, nil}
	default:
		return task{[]string{"gc"}, nil}
	}
}

// writeContested changes the store until stop is closed.
func (a *arena) writeContested(r *rand.Rand, stop <-chan struct{}) {
	for !closed(stop) {
		a.change(a.task(r))
		time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
	}
}

// writeSafe installs the versions of which nothing is ever removed, twice each,
// among other changes of theirs.
func (a *arena) writeSafe(r *rand.Rand, stop <-chan struct{}) {
	for i := 0; !closed(stop); i++ {
		v := a.safeVersion(i / 2 % safeVersions)
		t := task{[]string{"install", a.archive(safe, v, builds[0])}, nil}
		if r.IntN(2) == 0 {
			t.args = append(t.args, "--switch")
		}
		a.change(t)
		time.Sleep(time.Duration(r.IntN(int(*duration)/safeVersions + 1)))
	}
}

// report is what the command prints with --json.
type report struct {
	Installed []versionJSON
	Removed   []versionJSON
	Deferred  []versionJSON
}

type versionJSON struct {
	Name, Version string
	Already       bool
	Trashed       bool
}

func (v versionJSON) ref() string { return v.Name + "@" + v.Version }

// change runs one command, records what it reports, and returns its exit status.
func (a *arena) change(t task) (status int) {
	got := a.finish(a.berth(append([]string{"--json"}, t.args...)...))
	a.mu.Lock()
	a.changes++
	a.mu.Unlock()
	if !t.permits(got) {
		a.violation("berth %q: exit status %d\n%s%s", t.args, got.status, got.stdout, got.stderr)
	}
	if !strings.HasPrefix(got.stdout, "{") {
		return got.status
	}
	var done report
	if err := json.Unmarshal([]byte(got.stdout), &done); err != nil {
		a.violation("berth %q: %v\n%s", t.args, err, got.stdout)
		return got.status
	}
	for _, v := range done.Removed {
		a.record(event{ref: v.ref(), what: removed, start: got.start, end: got.end})
	}
	for _, v := range done.Deferred {
		e := event{ref: v.ref(), what: removed, start: got.start, end: got.end}
		switch {
		case v.Trashed:
			a.record(e)
		case t.args[0] == "remove":
			// It is marked: any supervisor may take it from now on.
			e.end = got.end.Add(time.Hour)
			a.record(e)
		}
	}
	if got.status != 0 {
		return got.status
	}
	for _, v := range done.Installed {
		a.record(event{ref: v.ref(), what: installed, start: got.start, end: time.Now(), afterwards: a.listed(v.ref())})
	}
	return got.status
}

func (a *arena) listed(ref string) bool {
	name, version, _ := strings.Cut(ref, "@")
	_, err := os.Lstat(filepath.Join(a.store, "runtimes", name, version))
	return err == nil
}

// lost looks for installations whose version is gone and that no removal
// explains.
func (a *arena) lost() {
	explained := func(e event, until time.Time) bool {
		return slices.ContainsFunc(a.log, func(r event) bool {
			return r.what == removed && r.ref == e.ref && r.end.After(e.start) && r.start.Before(until)
		})
	}
	for _, e := range a.log {
		if e.what != installed {
			continue
		}
		if !e.afterwards && !explained(e, e.end) {
			a.violation("%s was installed and not there right afterwards, and nobody had removed it", e.ref)
		}
		if !a.listed(e.ref) && !explained(e, time.Now()) {
			a.violation("%s was installed and is not there in the end, and nobody has removed it", e.ref)
		}
	}
}
