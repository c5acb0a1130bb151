package archive

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/store/manifest"
)

// A node is a name in the tree that is being made. The tree in memory is the
// same as the one on disk, which nobody else changes meanwhile.
type node struct {
	children map[string]*node // of a directory, else nil
	inode    *inode
}

// An inode is what one or, by hard links, several names stand for.
type inode struct {
	kind   kind
	mode   uint32
	time   time.Time
	timed  bool // of a directory: a member said when and which mode
	size   int64
	digest [32]byte
	linked bool   // from a donor
	target string // of a symlink
	names  int
}

type kind uint8

const (
	directory kind = iota
	regular
	symlink
	dropped // a device, fifo or socket, which is not on disk
)

func newDir() *node {
	return &node{children: make(map[string]*node), inode: &inode{kind: directory, mode: 0o755, names: 1}}
}

// find follows a path: nil if there is nothing, an error if something other
// than a directory is on the way.
func (n *node) find(parts []string) (*node, error) {
	for i, part := range parts {
		if err := n.passable(parts[:i]); err != nil {
			return nil, err
		}
		if n = n.children[part]; n == nil {
			return nil, nil
		}
	}
	return n, nil
}

// passable tells why nothing can be below the node.
func (n *node) passable(parts []string) error {
	switch n.inode.kind {
	case directory:
		return nil
	case symlink:
		return fmt.Errorf("%w: goes through the symbolic link %q", ErrUnsafe, strings.Join(parts, "/"))
	}
	return fmt.Errorf("%w: %q is no directory", ErrFormat, strings.Join(parts, "/"))
}

// describe enters into a tree what is below: itself as ".", sorted, and the
// groups of paths that are one inode, and counts the bytes.
func (n *node) describe(t *Tree) {
	var list []manifest.Entry
	var groups [][]string
	paths := make(map[*inode][]string)
	n.list(".", func(path string, i *inode) {
		if i.kind == dropped {
			return
		}
		list = append(list, i.entry(path))
		if i.names > 1 {
			paths[i] = append(paths[i], path)
		}
		if i.kind == regular && len(paths[i]) < 2 {
			t.Size += i.size
			if i.linked {
				t.Reused += i.size
				t.ReusedFiles++
			}
		}
	})
	slices.SortFunc(list, func(a, b manifest.Entry) int {
		switch {
		case a.Path == ".":
			return -1
		case b.Path == ".":
			return 1
		}
		return strings.Compare(a.Path, b.Path)
	})
	for _, group := range paths {
		if len(group) > 1 {
			slices.Sort(group)
			groups = append(groups, group)
		}
	}
	slices.SortFunc(groups, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	t.Entries, t.LinkGroups = list, groups
}

func (n *node) list(path string, visit func(string, *inode)) {
	visit(path, n.inode)
	for name, child := range n.children {
		if path != "." {
			name = path + "/" + name
		}
		child.list(name, visit)
	}
}

func (i *inode) entry(path string) manifest.Entry {
	e := manifest.Entry{Path: path, Mode: i.mode, Time: i.time}
	switch i.kind {
	case directory:
		e.Type = manifest.Dir
	case regular:
		e.Type, e.Size, e.Digest = manifest.File, i.size, i.digest
	case symlink:
		e.Type, e.Link = manifest.Link, i.target
	}
	return e
}
