package main

import (
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A meter shows how far a piece of work has come, if somebody watches and it
// takes longer than a second.
type meter struct {
	done atomic.Int64
	quit chan struct{} // closed to end it; nil if nobody watches
	over chan struct{} // closed when the last line is erased
}

const (
	meterAfter = time.Second
	meterEvery = 100 * time.Millisecond
)

// meter begins to measure work of total bytes, -1 if that is not known. The
// caller stops it before anything else is printed.
func (a *app) meter(label string, total int64) *meter {
	m := &meter{}
	if !a.errTerminal || a.quiet {
		return m
	}
	m.quit, m.over = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(m.over)
		select {
		case <-m.quit:
		case <-time.After(meterAfter):
			m.show(mpb.New(mpb.WithOutput(a.err), mpb.WithAutoRefresh()), label, total)
		}
	}()
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

func (m *meter) show(p *mpb.Progress, label string, total int64) {
	known := total > 0
	tail := []decor.Decorator{decor.CurrentKibiByte("% .1f")}
	if known {
		tail = []decor.Decorator{decor.CountersKibiByte("% .1f / % .1f"), decor.Percentage(decor.WC{W: 5})}
	}
	bar := p.New(max(total, 0), mpb.BarStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(label+" ")), mpb.AppendDecorators(tail...))
	ticker := time.NewTicker(meterEvery)
	defer ticker.Stop()
	for {
		select {
		case <-m.quit:
			bar.Abort(true)
			p.Wait()
			return
		case <-ticker.C:
			n := m.done.Load()
			if known {
				n = min(n, total-1) // it is over when stop says so
			}
			bar.SetCurrent(n)
		}
	}
}
