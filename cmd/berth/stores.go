package main

import (
	"context"
	"errors"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"

	"berth/config"
	"berth/gc/occupancy"
	"berth/store"
)

const systemStore = "/var/lib/berth"

// userStore is the person's own: "" if he has no home.
func userStore() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "berth")
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".local", "share", "berth")
}

// places are the stores that the command line chooses, the first being the one
// that is changed.
func (a *app) places() []string {
	own := userStore()
	switch {
	case a.storeDir != "":
		return []string{a.storeDir}
	case a.system || own == "":
		return []string{systemStore}
	case a.user:
		return []string{own}
	}
	return []string{own, systemStore}
}

func (a *app) options() store.Options {
	return store.Options{
		Looker: occupancy.New(),
		Notice: func(what string) { a.note("%s", what) },
		Deleted: func(bytes int64) {
			if a.removing != nil {
				a.removing.add(bytes)
			}
		},
		// Not everybody who opens a store deletes, and reads the configuration.
		RequireCompleteEvidence: func() (bool, error) {
			cfg, err := a.config()
			return cfg.GC.RequireCompleteEvidence, err
		},
	}
}

// writable is the path of the store that is changed.
func (a *app) writable() string {
	places := a.places()
	if len(places) == 2 && os.Geteuid() == 0 {
		return systemStore
	}
	return places[0]
}

// change opens the store that is to be changed. There must be one.
func (a *app) change() (*store.Store, error) {
	return store.Open(a.writable(), a.options())
}

// create opens the store that is to be changed, and makes it if need be.
func (a *app) create(ctx context.Context, opt store.Options) (*store.Store, error) {
	return store.Create(ctx, a.writable(), opt)
}

// stores opens those that are there, one after the other, in the order in which
// they are looked through, and closes each behind the loop's body: who finds
// what he is looking for in the first does not depend on the second.
func (a *app) stores() iter.Seq2[*store.Store, error] {
	return func(yield func(*store.Store, error) bool) {
		for _, path := range a.places() {
			s, err := store.Open(path, a.options())
			if errors.Is(err, store.ErrNoStore) {
				continue
			}
			more := yield(s, err)
			if err == nil {
				s.Close()
			}
			if !more {
				return
			}
		}
	}
}

// inEach calls fn for every store. One that cannot be opened beside another
// that can is left out, with a note.
func (a *app) inEach(fn func(*store.Store) error) error {
	opened := false
	var failed []error
	for s, err := range a.stores() {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		opened = true
		if err := fn(s); err != nil {
			return err
		}
	}
	if !opened {
		return errors.Join(failed...)
	}
	for _, err := range failed {
		a.note("left out: %v", err)
	}
	return nil
}

// inFirst calls fn for one store after the other, until it finds what it is
// looking for. What the first has and does not give, because it is to be removed
// or none is current, the next may give.
func (a *app) inFirst(ref store.Ref, fn func(*store.Store) error) error {
	var first error
	for s, err := range a.stores() {
		if err != nil {
			return err
		}
		err = fn(s)
		withheld := errors.Is(err, store.ErrDeferred) || errors.Is(err, store.ErrNoCurrent)
		if !withheld && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if first == nil || withheld && errors.Is(first, store.ErrNotFound) {
			first = err
		}
	}
	if first == nil {
		return &store.RefError{Op: "find", Ref: ref, Err: store.ErrNotFound}
	}
	return first
}

func (a *app) config() (cfg config.Config, err error) {
	if a.configFile != "" {
		cfg, err = config.LoadFile(a.configFile)
	} else {
		cfg, err = config.Load(config.Paths(os.Geteuid() == 0, os.Getenv)...)
	}
	if err != nil {
		return cfg, err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Runtimes)) {
		if !store.ValidName(name) {
			return cfg, &config.Error{Key: toml.Key{"runtime", name}.String(), Err: errors.New("no name of a runtime")}
		}
	}
	return cfg, nil
}
