package gc_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/gc"
	"berth/gc/occupancy"
	"berth/lock"
	"berth/store"
	"berth/store/source"
)

// newStore has the versions given of the runtime demo, the last being current.
func newStore(t *testing.T, versions ...string) *store.Store {
	t.Helper()
	s, err := store.Create(t.Context(), filepath.Join(t.TempDir(), "store"), store.Options{Looker: occupancy.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "file"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		a, err := source.File(tree)
		if err != nil {
			t.Fatal(err)
		}
		a.Name, a.Version = "demo", v
		// No two of them share anything.
		if _, err := s.Install(t.Context(), a, store.InstallOptions{Activate: true, NoSync: true, NoDedup: true}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func collector(s *store.Store, p gc.Policy) *gc.Collector {
	return &gc.Collector{Store: s, Policy: func(string) gc.Policy { return p }}
}

func listed(t *testing.T, s *store.Store) (versions []string) {
	t.Helper()
	list, err := s.List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		versions = append(versions, d.Ref.Version)
	}
	return versions
}

func TestCollectDoesWhatPreviewSays(t *testing.T) {
	s := newStore(t, "1", "2", "3", "4")
	if _, err := s.Pin(t.Context(), store.Ref{Name: "demo", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	c := collector(s, gc.Policy{Keep: 1})
	preview, err := c.Preview(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(t, s); len(got) != 4 {
		t.Fatalf("the preview changed something: %q", got)
	}
	var told []string
	done, err := c.Collect(t.Context(), []string{"demo"}, func(r gc.Removal) { told = append(told, r.Ref.Version) })
	if err != nil {
		t.Fatal(err)
	}
	if len(preview.Removed) != 1 || len(done.Removed) != 1 || preview.Removed[0] != done.Removed[0] {
		t.Errorf("previewed %+v, done %+v", preview.Removed, done.Removed)
	}
	if done.Removed[0].Freed < 1<<20 || done.Removed[0].Rule != gc.RuleSurplus || !slices.Equal(told, []string{"2"}) {
		t.Errorf("%+v, told of %q", done.Removed, told)
	}
	if got := listed(t, s); !slices.Equal(got, []string{"1", "3", "4"}) {
		t.Errorf("left are %q", got)
	}
	if len(done.Kept) != 3 || len(done.Deferred)+len(done.Failed) != 0 {
		t.Errorf("%+v", done)
	}
	if _, err := c.Collect(t.Context(), []string{"none"}, nil); err == nil {
		t.Error("a runtime that is not there")
	}
}

func TestGraceIsByTheInjectedClock(t *testing.T) {
	s := newStore(t, "1", "2")
	c := collector(s, gc.Policy{Grace: time.Hour})
	for _, step := range []struct {
		after time.Duration
		left  int
	}{{59 * time.Minute, 2}, {61 * time.Minute, 1}} {
		c.Now = func() time.Time { return time.Now().Add(step.after) }
		if _, err := c.Collect(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := listed(t, s); len(got) != step.left {
			t.Errorf("after %s left are %q", step.after, got)
		}
	}
}

func TestLimitsAreTheWholeStores(t *testing.T) {
	s := newStore(t, "1", "2", "3")
	c := collector(s, gc.Policy{Keep: 9})
	c.Limits = gc.Limits{MaxSize: 5 << 19} // two and a half
	r, err := c.Collect(t.Context(), nil, nil)
	if err != nil || len(r.Removed) != 1 || r.Removed[0].Rule != gc.RuleMaxSize || r.Removed[0].Ref.Version != "1" {
		t.Errorf("%+v, %v", r.Removed, err)
	}
	c.Limits = gc.Limits{MinFree: 1 << 60}
	if r, err = c.Collect(t.Context(), []string{"demo"}, nil); err != nil || len(r.Removed) != 1 || r.Removed[0].Rule != gc.RuleMinFree {
		t.Errorf("%+v, %v", r.Removed, err)
	}
	if got := listed(t, s); !slices.Equal(got, []string{"3"}) {
		t.Errorf("left are %q", got)
	}
}

// hold starts a process with a lock on a version.
func hold(t *testing.T, s *store.Store, version string) (end func()) {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", "-c", `
import fcntl, sys
f = open(sys.argv[1])
fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
print('ready', flush=True)
sys.stdin.read()`, filepath.Join(s.Path(), "runtimes/demo", version, "files/.ref"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("needs python3: %v", err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	end = func() { in.Close(); cmd.Wait() }
	t.Cleanup(end)
	return end
}

func TestDeferredIsCollectedWhenItIsFree(t *testing.T) {
	s := newStore(t, "1", "2")
	end := hold(t, s, "1")
	c := collector(s, gc.Policy{})
	r, err := c.Preview(t.Context(), nil)
	if err != nil || len(r.Deferred) != 1 || len(r.Deferred[0].Uses) == 0 || r.Deferred[0].Uses[0].Command != "python3" {
		t.Errorf("%+v, %v", r.Deferred, err)
	}
	r, err = c.Collect(t.Context(), nil, nil)
	if err != nil || len(r.Deferred) != 1 || len(r.Removed) != 0 || !strings.Contains(r.Deferred[0].Reason, "in use") {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err = c.AwaitFree(ctx, nil, r, nil); err != nil || len(r.Deferred) != 1 {
		t.Errorf("in vain: %+v, %v", r, err)
	}
	time.AfterFunc(200*time.Millisecond, end)
	if r, err = c.AwaitFree(t.Context(), nil, r, nil); err != nil || len(r.Deferred) != 0 || len(r.Removed) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if got := listed(t, s); !slices.Equal(got, []string{"2"}) {
		t.Errorf("left are %q", got)
	}
}

// blinkered sees nothing, and says so.
type blinkered struct{ kind store.BlindKind }

func (b blinkered) Look(_ context.Context, trees []store.Tree) (store.Sight, error) {
	return store.Sight{Uses: make([][]store.Use, len(trees)), Blind: []store.Blind{{Kind: b.kind, Text: "something"}}}, nil
}

func TestIncompleteEvidence(t *testing.T) {
	for _, c := range []struct {
		kind              store.BlindKind
		require, mayEnter bool
		kept              bool
	}{
		{store.BlindAccounts, false, true, false},
		{store.BlindAccounts, true, true, true},
		{store.BlindAccounts, true, false, false},
		{store.BlindHidepid, true, false, false},
		{store.BlindPIDs, true, false, true},
		{store.BlindRemote, true, false, true},
		{store.BlindRemote, false, true, false},
	} {
		made := newStore(t, "1", "2", "3")
		s, err := store.Open(made.Path(), store.Options{
			Looker:                  blinkered{c.kind},
			RequireCompleteEvidence: func() (bool, error) { return c.require, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		above := map[bool]os.FileMode{false: 0o700, true: 0o755}[c.mayEnter]
		if err := os.Chmod(filepath.Dir(filepath.Dir(made.Path())), above); err != nil {
			t.Fatal(err)
		}
		// Neither the policy nor the store itself goes on.
		if d, err := s.Lookup(store.Ref{Name: "demo", Version: "2"}); err != nil {
			t.Fatal(err)
		} else if _, err := s.Collect(t.Context(), *d, store.CollectOptions{}); c.kept && !errors.Is(err, lock.ErrBusy) {
			t.Errorf("%+v: %v", c, err)
		}
		r, err := collector(s, gc.Policy{}).Collect(t.Context(), nil, nil)
		if err != nil || (len(r.Removed) == 0) != c.kept {
			t.Errorf("%+v: %+v, %v", c, r, err)
		}
		if c.kept && (r.Kept[0].Rule != gc.RuleDoubt || r.Kept[0].Reason != "it may be in use: something cannot be seen") {
			t.Errorf("%+v: %+v", c, r.Kept)
		}
		s.Close()
	}
}
