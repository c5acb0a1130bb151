package store

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Occupied is a tree of the store and who uses it.
type Occupied struct {
	Ref     Ref
	Trashed bool // unpublished, in the trash until it is free
	Uses    []Use
}

// lookAtOnce bounds the descriptors that are open during one look: half of
// those that we may have.
func lookAtOnce() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 100
	}
	return int(max(1, min(1000, limit.Cur/2)))
}

// Occupants asks who uses the deployments given, in their order, and leaves
// out those that have gone. Blind is what the Looker could not see.
func (s *Store) Occupants(ctx context.Context, deployments []Deployment) (found []Occupied, blind []Blind, err error) {
	for chunk := range slices.Chunk(deployments, lookAtOnce()) {
		trees := make([]namedTree, 0, len(chunk))
		for _, d := range chunk {
			trees = append(trees, namedTree{Occupied{Ref: d.Ref}, s.runtimes, d.Ref.Name + "/" + d.Ref.Version})
		}
		more, blindHere, err := s.occupants(ctx, trees)
		if err != nil {
			return nil, nil, err
		}
		found, blind = append(found, more...), mergeBlind(blind, blindHere)
	}
	return found, blind, nil
}

// Trash asks who uses the trees in the trash.
func (s *Store) Trash(ctx context.Context) (found []Occupied, blind []Blind, err error) {
	list, err := s.trash.entries()
	if err != nil {
		return nil, nil, err
	}
	for chunk := range slices.Chunk(list, lookAtOnce()) {
		var trees []namedTree
		for _, e := range chunk {
			ref := refOfTrash(e.Name())
			trees = append(trees, namedTree{Occupied{Ref: ref, Trashed: true}, s.trash, e.Name()})
		}
		more, blindHere, err := s.occupants(ctx, trees)
		if err != nil {
			return nil, nil, err
		}
		found, blind = append(found, more...), mergeBlind(blind, blindHere)
	}
	return found, blind, nil
}

type namedTree struct {
	Occupied
	parent dir
	path   string
}

func (s *Store) occupants(ctx context.Context, named []namedTree) (found []Occupied, blind []Blind, err error) {
	if s.opt.Looker == nil {
		return nil, nil, errNoLooker
	}
	var trees []Tree
	defer func() {
		for _, t := range trees {
			t.Dir.Close()
		}
	}()
	for _, n := range named {
		d, err := n.parent.findDir(n.path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue // gone, or no tree: nothing of ours
		}
		if err != nil {
			return nil, nil, err
		}
		trees = append(trees, treeOf(n.Ref, d))
		found = append(found, n.Occupied)
	}
	sight, err := s.opt.Looker.Look(ctx, trees)
	if err != nil {
		return nil, nil, err
	}
	for i := range found {
		found[i].Uses = sight.Uses[i]
	}
	return found, sight.Blind, nil
}

func mergeBlind(a, b []Blind) []Blind {
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}
