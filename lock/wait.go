package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	firstPause   = time.Millisecond
	longestPause = 250 * time.Millisecond
)

// Wait takes the lock as Try does, but while somebody else's lock conflicts it
// tries again, after pauses that grow to at most 250 ms, until ctx is done. It
// then returns an error that is both ErrBusy and the context's own. Waiting in
// the kernel (F_OFD_SETLKW) would be deaf to the context.
//
// busy, if it is not nil, is called once, in the same goroutine, when the
// first try has failed: the place to tell a person what is waited for.
func Wait(ctx context.Context, f *os.File, m Mode, busy func()) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := Try(f, m)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if busy != nil {
			busy()
			busy = nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-timer.C:
		}
	}
}
