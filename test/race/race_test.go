package race

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/test/check"
)

// writers is how many processes change the contested runtime at any time.
const writers = 4

// No reader ever sees a file vanish or change, whatever happens to the store.
func TestReadersKeepTheirFiles(t *testing.T) {
	fmt.Printf("race: seed %d, %s\n", *seed, *duration)
	a := newArena(t)
	a.change(task{[]string{"install", a.archive(contested, versions[0], builds[0])}, nil})
	a.change(task{[]string{"install", a.archive(contested, versions[1], builds[0])}, nil})

	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() { a.writeContested(a.random(10000+i), stop) })
	}
	all.Go(func() { a.writeSafe(a.random(20000), stop) })
	all.Go(func() { a.watch(stop) })
	// At first nothing is in use, and every change may go through.
	time.Sleep(*duration / 6)
	for i, k := range readers {
		for j := range max(k.copies, 1) {
			all.Go(func() { a.read(k, a.random(100*i+j), stop) })
		}
	}
	time.Sleep(*duration - *duration/6)
	close(stop)
	all.Wait()

	a.atTheEnd()
	a.lost()
	for _, k := range readers {
		t.Logf("%-32s %5d whole, %5d refused", k.name, a.reads[k.name], a.refused[k.name])
		if a.reads[k.name] == 0 {
			t.Errorf("%s never ran: the test shows nothing of it", k.name)
		}
	}
	collected := 0
	for _, e := range a.log {
		if e.what == removed {
			collected++
		}
	}
	t.Logf("%d removals", collected)
	if collected == 0 {
		t.Error("nothing was ever removed: the test shows nothing")
	}
}

// The old tree of a forced installation is reachable by its path until the
// exchange: who has opened it then must not lose it afterwards.
func TestForeignReadersBesideAForcedInstallation(t *testing.T) {
	const forcedFor = 8 * time.Second
	a := newArena(t)
	version := versions[0]
	a.change(task{[]string{"install", a.archive(contested, version, builds[0])}, nil})
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 2 {
		r := a.random(30000 + i)
		kind := []string{"ofd", "posix"}[i%2]
		all.Go(func() {
			for !closed(stop) {
				a.readOnce(reader{kind, func(a *arena, r *rand.Rand, version string) *exec.Cmd {
					return a.foreign(kind, version, time.Duration(r.IntN(60))*time.Millisecond, 0)
				}, pythons, 0}, r, version)
				time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			}
		})
	}
	replaced := 0
	for start := time.Now(); time.Since(start) < forcedFor; {
		for _, build := range builds {
			if a.change(task{[]string{"install", "--force", a.archive(contested, version, build)}, naming}) == 0 {
				replaced++
			}
		}
	}
	close(stop)
	all.Wait()
	a.atTheEnd()
	t.Logf("%d replaced, %v whole, %v refused", replaced, a.reads, a.refused)
	if replaced == 0 {
		t.Error("nothing was ever replaced: the test shows nothing")
	}
}

func closed(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// watch looks at the store from time to time while nobody can rename anything
// in it, because it holds the store lock.
func (a *arena) watch(stop <-chan struct{}) {
	const pause, thorough = 20 * time.Millisecond, 150
	for i := 1; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		f, err := os.OpenFile(filepath.Join(a.store, "lock"), os.O_RDWR, 0)
		if err != nil {
			a.violation("%v", err)
			continue
		}
		whole := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &whole); err != nil {
			a.violation("lock the store: %v", err)
		}
		current := filepath.Join(a.store, "runtimes", contested, "current")
		if version, err := os.Readlink(current); err == nil && !a.listed(ref(version)) {
			a.violation("in the middle: current is %s, which is not listed", version)
		}
		if i%thorough == 0 {
			if r, err := check.Store(a.store); err != nil {
				a.violation("check the store: %v", err)
			} else if len(r.Problems) > 0 {
				a.violation("in the middle: %q", r.Problems)
			}
		}
		f.Close()
	}
}

// atTheEnd looks at the store when everybody has left.
func (a *arena) atTheEnd() {
	a.t.Helper()
	a.change(task{[]string{"gc"}, nil})
	r, err := check.Store(a.store)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, p := range r.Problems {
		a.violation("in the end: %s", p)
	}
	for _, p := range r.Left {
		a.violation("left in the end: %s", p)
	}
	for i := range safeVersions {
		ref := safe + "@" + a.safeVersion(i)
		was := slices.ContainsFunc(a.log, func(e event) bool { return e.what == installed && e.ref == ref })
		if was && !slices.Contains(r.Listed, ref) {
			a.violation("%s was installed, and is not listed in the end", ref)
		}
	}
}
