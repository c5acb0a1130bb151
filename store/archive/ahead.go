package archive

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
)

const (
	aheadBlock  = 256 << 10
	aheadBlocks = 6
)

// An ahead is a stage of the pipeline: a goroutine that reads a source a few
// blocks ahead of whoever reads the ahead.
type ahead struct {
	ctx   context.Context
	full  chan []byte // blocks to be read, closed at the source's end
	free  chan []byte // blocks to be filled
	block []byte      // the block that is being read
	rest  []byte      // what of it is left
	err   error       // how the source ended, set before full is closed
	own   atomic.Pointer[error]
}

// readAhead starts a stage, which ends with its source or with ctx and is
// counted in stages. each, if not nil, gets to see every piece that is read, in
// order, and last, if not nil, is called when the source is not read any more,
// both in the stage's goroutine.
func readAhead(ctx context.Context, stages *sync.WaitGroup, src io.Reader, each func([]byte), last func()) *ahead {
	a := &ahead{
		ctx:  ctx,
		full: make(chan []byte, aheadBlocks),
		free: make(chan []byte, aheadBlocks),
	}
	for range aheadBlocks {
		a.free <- nil // made when it is needed: a small source fills one
	}
	stages.Go(func() {
		defer close(a.full)
		if last != nil {
			defer last()
		}
		for a.err == nil {
			select {
			case b := <-a.free:
				if b == nil {
					b = make([]byte, aheadBlock)
				}
				n := a.fill(src, b, each)
				a.full <- b[:n]
			case <-ctx.Done():
				a.err = context.Cause(ctx)
			}
		}
	})
	return a
}

// fill reads until the block is full or the source has ended.
func (a *ahead) fill(src io.Reader, b []byte, each func([]byte)) int {
	n := 0
	for idle := 0; n < len(b) && a.err == nil; {
		if a.ctx.Err() != nil {
			a.err = context.Cause(a.ctx)
			return n
		}
		m, err := src.Read(b[n:])
		if m > 0 && each != nil {
			each(b[n : n+m])
		}
		n += m
		if idle++; m > 0 {
			idle = 0
		} else if err == nil && idle == 100 {
			err = io.ErrNoProgress
		}
		if err != nil && err != io.EOF {
			a.own.Store(&err)
		}
		a.err = err
	}
	return n
}

// fault is the source's own error, other than io.EOF, if it had one by now.
// It may be asked for at any time, in any goroutine.
func (a *ahead) fault() error {
	if p := a.own.Load(); p != nil {
		return *p
	}
	return nil
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.block != nil {
			a.free <- a.block[:cap(a.block)]
			a.block = nil
		}
		select {
		case b, ok := <-a.full:
			if !ok {
				return 0, a.err
			}
			a.block, a.rest = b, b
		case <-a.ctx.Done():
			return 0, context.Cause(a.ctx)
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}
