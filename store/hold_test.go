package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"berth/lock"
	"berth/store"
)

func TestRollbackTogglesByActivation(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	for _, v := range []string{"3.0", "2.0"} {
		must(t, s.Switch(t.Context(), store.Ref{Name: "demo", Version: v}))
	}
	for _, want := range []string{"3.0", "2.0", "3.0"} {
		got, err := s.Rollback(t.Context(), "demo")
		if err != nil || got.Version != want {
			t.Errorf("rolled back to %v, %v; want %s", got, err, want)
		}
		if d, _ := s.Lookup(store.Ref{Name: "demo"}); d.Ref.Version != want {
			t.Errorf("current is %s, want %s", d.Ref.Version, want)
		}
	}
	if _, err := s.Rollback(t.Context(), "other"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	install(t, s, "single@1")
	if _, err := s.Rollback(t.Context(), "single"); !errors.Is(err, store.ErrNoPrevious) {
		t.Errorf("got %v", err)
	}
}

func TestDeferredTakesNoReaders(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	must(t, s.Defer(t.Context(), parse(t, "demo@2.0")))
	if _, err := s.Hold(t.Context(), parse(t, "demo@2.0")); !errors.Is(err, store.ErrDeferred) {
		t.Errorf("hold: %v", err)
	}
	if err := s.Switch(t.Context(), parse(t, "demo@2.0")); !errors.Is(err, store.ErrDeferred) {
		t.Errorf("switch: %v", err)
	}
	if err := s.Defer(t.Context(), parse(t, "demo@1.0")); !errors.Is(err, store.ErrCurrent) {
		t.Errorf("defer of the current one: %v", err)
	}
	d, err := s.Lookup(parse(t, "demo@2.0"))
	if err != nil || !d.Deferred || time.Since(d.DeferredAt) > time.Minute {
		t.Errorf("%+v, %v", d, err)
	}
	must(t, collect(t, s, "demo@2.0", store.CollectOptions{}))
}

func TestHoldErrors(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	hold := func(ref string) error {
		h, err := s.Hold(t.Context(), parse(t, ref))
		if err == nil {
			h.Release()
		}
		return err
	}
	for ref, want := range map[string]error{"none": store.ErrNotFound, "demo@3.0": store.ErrNotFound, "none@1": store.ErrNotFound} {
		if err := hold(ref); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	must(t, os.Remove(filepath.Join(s.Path(), "runtimes/demo/current")))
	if err := hold("demo"); !errors.Is(err, store.ErrNoCurrent) {
		t.Errorf("no current: %v", err)
	}
	must(t, os.Symlink("../../etc", filepath.Join(s.Path(), "runtimes/demo/current")))
	if err := hold("demo"); !errors.Is(err, store.ErrBroken) {
		t.Errorf("current leads out: %v", err)
	}
	must(t, os.Symlink("1.0", filepath.Join(s.Path(), "runtimes/demo/9.0")))
	if err := hold("demo@9.0"); err == nil {
		t.Error("a symlink was taken for a version")
	}
	must(t, os.Remove(filepath.Join(s.Path(), "runtimes/demo/2.0/files/.ref")))
	if err := hold("demo@2.0"); !errors.Is(err, store.ErrBroken) {
		t.Errorf("no .ref: %v", err)
	}
	writer, err := os.OpenFile(filepath.Join(s.Path(), "runtimes/demo/1.0/files/.ref"), os.O_RDWR, 0)
	must(t, err)
	defer writer.Close()
	must(t, lock.Try(writer, lock.Write))
	if err := hold("demo@1.0"); !errors.Is(err, lock.ErrBusy) {
		t.Errorf("beside a write lock: %v", err)
	}
}

// A reader between its open and its lock must notice that the deployment went.
func TestTheReadersSecondLook(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, err := s.Hold(context.Background(), store.Ref{Name: "demo", Version: "2.0"})
				if err != nil {
					continue
				}
				if text, err := os.ReadFile(filepath.Join(h.Files(), "bin/tool")); err != nil || string(text) != "tool of demo@2.0" {
					t.Errorf("a held runtime has %q, %v", text, err)
				}
				h.Release()
				time.Sleep(2 * time.Millisecond) // or else no collector ever comes between
			}
		})
	}
	for range 30 {
		for {
			err := collect(t, s, "demo@2.0", store.CollectOptions{})
			if err == nil {
				break
			}
			if !errors.Is(err, lock.ErrBusy) && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			if errors.Is(err, store.ErrNotFound) {
				break
			}
		}
		install(t, s, "demo@2.0")
	}
	close(stop)
	wg.Wait()
	_, err := s.Drain(t.Context())
	must(t, err)
	wantClean(t, s)
}
