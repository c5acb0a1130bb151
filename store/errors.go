package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"berth/lock"
)

var (
	// ErrBadRef says that a text is no ref.
	ErrBadRef = errors.New("bad ref")
	// ErrNotFound says that the store has no such runtime or version. It and
	// the next three are fs.ErrNotExist as well.
	ErrNotFound error = absence("not installed")
	// ErrNoCurrent says that a runtime has versions, but none is current.
	ErrNoCurrent error = absence("no version is current")
	// ErrNoPrevious says that a runtime has no version to roll back to.
	ErrNoPrevious error = absence("no other version has been current")
	// ErrNoStore says that a directory is missing or empty: not yet a store.
	ErrNoStore error = absence("no store yet")
	// ErrForeign says that a directory has something else in it than a store,
	// or a store of a format that is not ours.
	ErrForeign = errors.New("not a store of ours")
	// ErrUnmarked says that a store has lost its store.toml. It is ErrForeign.
	ErrUnmarked = fmt.Errorf("%w: it holds runtimes, and its %s is missing", ErrForeign, formatFile)
	// ErrPinned says that a version is protected by its file "keep".
	ErrPinned = errors.New("pinned")
	// ErrCurrent says that a version is protected by being the current one.
	ErrCurrent = errors.New("the current version")
	// ErrDeferred says that a version is condemned and takes no new readers.
	ErrDeferred = errors.New("to be removed once it is free")
	// ErrBroken says that a deployment lacks a part that every one has.
	ErrBroken = errors.New("broken deployment")
	// ErrChanged says that something else is at the place by now.
	ErrChanged = errors.New("replaced meanwhile")
)

// absence is something that is not there.
type absence string

func (e absence) Error() string { return string(e) }

// Is makes it fs.ErrNotExist.
func (e absence) Is(target error) bool { return target == fs.ErrNotExist }

// RefError is an operation on a ref that failed.
type RefError struct {
	Op  string // "remove"
	Ref Ref
	Err error
}

func (e *RefError) Error() string {
	return fmt.Sprintf("cannot %s %s: %s", e.Op, e.Ref, e.Err)
}

func (e *RefError) Unwrap() error { return e.Err }

// InUseError says that a tree stays because somebody uses it. It is
// lock.ErrBusy too.
type InUseError struct {
	// Uses are those that /proc shows. None: the lock is held by a process
	// that we cannot see, of another account, container or machine.
	Uses []Use
	// Trashed says that the tree is unpublished already and waits in the
	// trash, whole, for the end of its users.
	Trashed bool
	// Doubt says why it may be in use though Uses are none and the lock is
	// free: something could not be seen, and the store requires that it is.
	Doubt string
}

func (e *InUseError) Error() string {
	if e.Doubt != "" {
		return "perhaps in use: " + e.Doubt
	}
	if len(e.Uses) == 0 {
		return "in use by a process that cannot be seen from here"
	}
	var who []string
	seen := make(map[int]bool)
	for _, u := range e.Uses {
		if seen[u.PID] {
			continue
		}
		seen[u.PID] = true
		if len(who) == 3 {
			who = append(who, "others")
			break
		}
		who = append(who, u.String())
	}
	return "in use by " + strings.Join(who, ", ")
}

// Is makes it lock.ErrBusy.
func (e *InUseError) Is(target error) bool { return target == lock.ErrBusy }

// missing turns the error of a path that is not there into ErrNotFound.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return err
}
