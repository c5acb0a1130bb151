package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"berth/store"
)

// installTwin installs a version with the content of another version.
func installTwin(t *testing.T, s *store.Store, ref, contentOf string, opt store.InstallOptions) *store.Installed {
	t.Helper()
	a := artifact(t, contentOf)
	r := parse(t, ref)
	a.Name, a.Version = r.Name, r.Version
	opt.NoSync = true
	done, err := s.Install(t.Context(), a, opt)
	must(t, err)
	return done
}

func sameFile(t *testing.T, s *store.Store, a, b, path string) bool {
	t.Helper()
	var infos []os.FileInfo
	for _, version := range []string{a, b} {
		info, err := os.Lstat(filepath.Join(s.Path(), "runtimes/demo", version, "files", path))
		must(t, err)
		infos = append(infos, info)
	}
	return os.SameFile(infos[0], infos[1])
}

func wantIntact(t *testing.T, s *store.Store, ref string) {
	t.Helper()
	if _, found, err := s.Verify(t.Context(), parse(t, ref), nil); err != nil || len(found) > 0 {
		t.Errorf("%s: %v, %v", ref, found, err)
	}
}

func TestInstallLinksFromDonors(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0")
	done := installTwin(t, s, "demo@2.0", "demo@1.0", store.InstallOptions{Activate: true})
	if done.Reused == 0 || done.Reused != done.Size {
		t.Errorf("reused %d of %d bytes", done.Reused, done.Size)
	}
	if !sameFile(t, s, "1.0", "2.0", "bin/tool") || !sameFile(t, s, "1.0", "2.0", "bin/same") {
		t.Error("not linked")
	}
	if sameFile(t, s, "1.0", "2.0", ".ref") {
		t.Error("two versions have one lock")
	}
	// Nothing is held any more: the donor goes, and its twin stays whole.
	must(t, collect(t, s, "demo@1.0", store.CollectOptions{}))
	wantIntact(t, s, "demo@2.0")

	done = installTwin(t, s, "demo@3.0", "demo@1.0", store.InstallOptions{NoDedup: true})
	if done.Reused != 0 || sameFile(t, s, "2.0", "3.0", "bin/tool") {
		t.Error("linked, but was not to be")
	}
	wantClean(t, s)
}

// The current version and the two that were activated before it are donors,
// and a version is never its own.
func TestDonorsAreChosen(t *testing.T) {
	s := newStore(t)
	for _, ref := range []string{"demo@1.0", "demo@2.0", "demo@3.0", "demo@4.0"} {
		installTwin(t, s, ref, ref, store.InstallOptions{Activate: true})
	}
	install(t, s, "demo@5.0") // never activated
	for i, c := range []struct {
		content string
		reused  bool
	}{{"demo@1.0", false}, {"demo@2.0", true}, {"demo@3.0", true}, {"demo@4.0", true}, {"demo@5.0", false}} {
		ref := "demo@9." + string(rune('0'+i))
		if done := installTwin(t, s, ref, c.content, store.InstallOptions{}); done.Reused > 0 != c.reused {
			t.Errorf("content of %s: reused %d bytes", c.content, done.Reused)
		}
		must(t, collect(t, s, ref, store.CollectOptions{}))
	}
	if done := installTwin(t, s, "demo@4.0", "demo@4.0", store.InstallOptions{Force: true}); done.Reused > 0 || !done.Replaced {
		t.Errorf("%+v", done)
	}
	wantIntact(t, s, "demo@4.0")
}

// A donor that is locked for writing is none, and nobody waits for it.
func TestDonorsThatCannotBeHeld(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0")
	must(t, os.Remove(filepath.Join(s.Path(), "runtimes/demo/1.0/files/.ref")))
	if done := installTwin(t, s, "demo@2.0", "demo@1.0", store.InstallOptions{}); done.Reused > 0 {
		t.Error("linked from what was not held")
	}
	wantIntact(t, s, "demo@2.0")
}

// Who installs a version that is condemned wants it after all.
func TestInstallReprieves(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	condemned := parse(t, "demo@2.0")
	must(t, s.Defer(t.Context(), condemned))
	d, err := s.Lookup(condemned)
	must(t, err)
	done := installTwin(t, s, "demo@2.0", "demo@2.0", store.InstallOptions{Activate: true})
	if !done.Already || !done.Reprieved || !done.Activated {
		t.Errorf("%+v", done)
	}
	h, err := s.Hold(t.Context(), condemned)
	must(t, err)
	must(t, h.Release())
	must(t, s.Switch(t.Context(), parse(t, "demo@1.0")))
	// A collector that still has the old news takes nothing away.
	if _, err := s.Collect(t.Context(), *d, store.CollectOptions{}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("collect: %v", err)
	}
	wantVersions(t, s, "demo@1.0", "demo@2.0")
}
