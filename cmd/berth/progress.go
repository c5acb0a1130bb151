package main

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// A meter shows how far a piece of work has come, if somebody watches and it
// takes longer than a second.
//
// It is one line, drawn here: the libraries for it compile regular expressions
// when they are loaded, which every start of exec and run would pay for.
type meter struct {
	done  atomic.Int64
	label string
	total int64
	quit  chan struct{} // closed to end it; nil if nobody watches
	over  chan struct{} // closed when the line is erased
}

const (
	meterAfter = time.Second
	meterEvery = 100 * time.Millisecond
)

// meter begins to measure work of total bytes, -1 if that is not known. The
// caller stops it before anything else is printed.
func (a *app) meter(label string, total int64) *meter {
	m := &meter{label: label, total: total}
	if a.errTerminal && !a.quiet {
		m.quit, m.over = make(chan struct{}), make(chan struct{})
		go m.show(a.err, a.errWidth)
	}
	return m
}

// add counts bytes. It may be called from any goroutine.
func (m *meter) add(n int64) { m.done.Add(n) }

func (m *meter) stop() {
	if m.quit != nil {
		close(m.quit)
		<-m.over
	}
}

func (m *meter) show(w io.Writer, width func() int) {
	defer close(m.over)
	select {
	case <-m.quit:
		return
	case <-time.After(meterAfter):
	}
	// Back to the first column, and erase from there: ECMA-48, EL.
	const erase = "\r\x1b[K"
	defer io.WriteString(w, erase)
	ticker := time.NewTicker(meterEvery)
	defer ticker.Stop()
	for {
		io.WriteString(w, erase+meterLine(m.label, m.done.Load(), m.total, width()))
		select {
		case <-m.quit:
			return
		case <-ticker.C:
		}
	}
}

// meterLine, of an ASCII label, fits into a terminal of width columns: what does not is left out,
// the bar before the label.
func meterLine(label string, done, total int64, width int) string {
	const least = 10 // columns of a bar that says something
	count := size(done)
	if total > 0 {
		done = min(done, total)
		all := size(total)
		count = fmt.Sprintf("%*s / %s %3d %%", len(all), size(done), all, 100*done/total)
	}
	// The last column stays free, or else some terminals wrap.
	room := width - 1 - len(label) - len(" [] ") - len(count)
	if total > 0 && room >= least {
		filled := int(float64(room) * float64(done) / float64(total))
		return fmt.Sprintf("%s [%s%s] %s", label, strings.Repeat("=", filled), strings.Repeat(" ", room-filled), count)
	}
	line := label + " " + count
	if len(line) >= width {
		line = count
	}
	return line[:min(len(line), max(width-1, 0))]
}
