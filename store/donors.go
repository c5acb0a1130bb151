package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"berth/store/archive"
	"berth/store/manifest"
)

// mostDonors is how many versions besides the current one an installation
// links unchanged files from: those that were activated most recently.
const mostDonors = 2

// donors are the held versions that an installation links from. They are let
// go before any write lock is tried: who waits for one while he reads could
// wait for himself.
type donors struct {
	holds []*Hold
	files []dir
	list  []archive.Donor
}

// holdDonors holds the donors of a version: never itself. One that cannot be
// held or read is none.
func (s *Store) holdDonors(ctx context.Context, ref Ref) (*donors, error) {
	list, err := s.List(ref.Name)
	if errors.Is(err, ErrNotFound) {
		return &donors{}, nil
	}
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(d Deployment) bool {
		return d.Ref == ref || d.Err != nil || !d.Current && d.Activated.IsZero()
	})
	slices.SortFunc(list, func(a, b Deployment) int {
		switch {
		case a.Current:
			return -1
		case b.Current:
			return 1
		}
		return b.Activated.Compare(a.Activated)
	})
	d := &donors{}
	for _, candidate := range list[:min(len(list), mostDonors+1)] {
		if ctx.Err() != nil {
			d.release()
			return nil, context.Cause(ctx)
		}
		d.hold(s, candidate.Ref)
	}
	return d, nil
}

func (d *donors) hold(s *Store, ref Ref) {
	h, err := s.tryHold(ref)
	if err != nil {
		return
	}
	files, err := h.dep.openDir(filesDir)
	if err != nil {
		h.Release()
		return
	}
	d.holds, d.files = append(d.holds, h), append(d.files, files)
	d.list = append(d.list, archive.Donor{Files: files.File, Entries: manifestEntries(h.dep)})
}

// release may be called twice.
func (d *donors) release() {
	for i, h := range d.holds {
		d.files[i].Close()
		h.Release()
	}
	*d = donors{}
}

// manifestEntries reads a deployment's manifest.
func manifestEntries(dep dir) iter.Seq2[manifest.Entry, error] {
	return func(yield func(manifest.Entry, error) bool) {
		f, err := dep.openFile(manifestFile, unix.O_RDONLY)
		if err != nil {
			yield(manifest.Entry{}, broken(err))
			return
		}
		defer f.Close()
		if err := readEntries(f, yield); err != nil {
			yield(manifest.Entry{}, err)
		}
	}
}

func readEntries(f *os.File, yield func(manifest.Entry, error) bool) error {
	m, err := manifest.NewReader(f)
	if err != nil {
		return brokenManifest(err)
	}
	defer m.Close()
	for {
		e, err := m.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return brokenManifest(err)
		}
		if !yield(e, nil) {
			return nil
		}
	}
}

func brokenManifest(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrBroken, manifestFile, err)
}
