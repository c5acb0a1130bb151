package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/config"
	"berth/lock"
	"berth/store"
	"berth/store/archive"
	"berth/store/source"
)

// Exit statuses, after sysexits(3).
const (
	exitUsage       = 64
	exitData        = 65
	exitNotFound    = 66
	exitUnavailable = 69
	exitCreate      = 73
	exitIO          = 74
	exitBusy        = 75
	exitPermission  = 77
	exitConfig      = 78
	exitNotRunnable = 126
	exitNoCommand   = 127
	exitInterrupted = 130
)

// usageError is a command line that cannot be understood.
type usageError string

func (e usageError) Error() string { return string(e) }

// statusError gives an error a status that its kind alone does not tell.
type statusError struct {
	status int
	err    error // nil: all has been said
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *statusError) Unwrap() error { return e.err }

// hintedError adds what a person can do about it.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// exit tells the error, and maps it to the exit status.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	status := statusOf(err)
	var said *statusError
	if errors.As(err, &said) && said.err == nil {
		return status
	}
	if status == exitInterrupted {
		fmt.Fprintln(a.err, "berth: interrupted")
		return status
	}
	for _, err := range severally(err) {
		fmt.Fprintln(a.err, "berth: "+printable(err.Error()))
		if hint := hintOf(err); hint != "" {
			fmt.Fprintln(a.err, hint)
		}
	}
	return status
}

// together makes one error of several: its status is what they have in common,
// or that of a partial failure.
func together(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	status := statusOf(errs[0])
	for _, err := range errs[1:] {
		if statusOf(err) != status {
			status = exitIO
		}
	}
	return &statusError{status, errors.Join(errs...)}
}

// severally takes joined errors apart.
func severally(err error) []error {
	if status, ok := err.(*statusError); ok {
		return severally(status.err)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || strings.Count(err.Error(), "\n")+1 != len(joined.Unwrap()) {
		return []error{err}
	}
	var list []error
	for _, err := range joined.Unwrap() {
		list = append(list, severally(err)...)
	}
	return list
}

// printable escapes what a terminal could take for something else: not all
// errors come from us.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

func statusOf(err error) int {
	var status *statusError
	if errors.As(err, &status) {
		return status.status
	}
	var configError *config.Error
	var usage usageError
	if errors.As(err, &configError) {
		return exitConfig
	}
	if errors.As(err, &usage) {
		return exitUsage
	}
	for _, m := range []struct {
		kind   error
		status int
	}{
		{context.Canceled, exitInterrupted},
		{store.ErrBadRef, exitUsage},
		{archive.ErrUnsafe, exitData},
		{archive.ErrFormat, exitData},
		{archive.ErrTooBig, exitData},
		{source.ErrDigest, exitData},
		{store.ErrBroken, exitData},
		{lock.ErrUnsupported, exitUnavailable},
		{source.ErrUnavailable, exitUnavailable},
		{store.ErrNoExchange, exitUnavailable},
		{store.ErrForeign, exitConfig},
		{store.ErrPinned, exitPermission},
		{store.ErrCurrent, exitPermission},
		{store.ErrDeferred, exitNotFound},
		{lock.ErrBusy, exitBusy},
		{store.ErrChanged, exitBusy},
		{unix.EROFS, exitCreate},
		{fs.ErrPermission, exitPermission},
		{fs.ErrNotExist, exitNotFound},
		{fs.ErrExist, exitCreate},
	} {
		if errors.Is(err, m.kind) {
			return m.status
		}
	}
	return exitIO
}

func hintOf(err error) string {
	var hinted *hintedError
	if errors.As(err, &hinted) {
		return hinted.hint
	}
	var usage usageError
	if errors.As(err, &usage) {
		return "see 'berth --help', or 'berth COMMAND --help'"
	}
	for _, m := range []struct {
		kind error
		hint string
	}{
		{store.ErrPinned, "'berth unpin' takes the protection away"},
		{store.ErrCurrent, "'berth switch' to another version first"},
		{store.ErrNoCurrent, "'berth switch' to one of 'berth list'"},
		{archive.ErrTooBig, "the limit is max-unpacked in [store] of the configuration"},
		{store.ErrUnmarked, "if berth has made it, write 'format = 1' into its store.toml"},
		{store.ErrForeign, "give another directory with --store, or an empty one"},
	} {
		if errors.Is(err, m.kind) {
			return m.hint
		}
	}
	return ""
}
