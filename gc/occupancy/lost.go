package occupancy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"berth/store"
)

// lost is an object on the file system of a tree, of which nobody shows the
// mount, so that no path leads to it.
type lost struct {
	how  store.How
	stat uint64 // its st_dev; 0: only the device is known
	dev  device
	ino  uint64
}

// lose notes an object once.
func (s *seen) lose(o lost) {
	if !slices.Contains(s.lost, o) {
		s.lost = append(s.lost, o)
	}
}

// mayBeIn tells whether the object is on the file system of a tree.
func (o lost) mayBeIn(t *tree) bool {
	return o.stat == t.id.dev || o.stat == 0 && o.dev == t.mnt.dev
}

// findLost looks for what is lost in the trees themselves, inode by inode: it
// is used by whoever lost it, wherever it is found. It returns how many objects
// may be in a part of a tree that could not be read.
func (l *look) findLost() (unplaced int, err error) {
	var partly []*tree
	for i := range l.index.trees {
		t := &l.index.trees[i]
		found := l.lostIn(i)
		if len(found) == 0 {
			continue
		}
		whole, err := t.each(l.proc, func(path string, ino uint64) {
			for _, add := range found[ino] {
				add(path)
			}
		})
		if err != nil {
			return 0, err
		}
		if !whole {
			partly = append(partly, t)
		}
	}
	for _, s := range l.seen {
		for _, o := range s.lost {
			if slices.ContainsFunc(partly, o.mayBeIn) {
				unplaced++
			}
		}
	}
	return unplaced, nil
}

// lostIn lists what to do when an inode is found in a tree.
func (l *look) lostIn(tree int) map[uint64][]func(path string) {
	found := map[uint64][]func(path string){}
	for _, s := range l.seen {
		for _, o := range s.lost {
			if o.mayBeIn(&l.index.trees[tree]) {
				found[o.ino] = append(found[o.ino], func(path string) { s.add(o.how, place{tree, path}, false) })
			}
		}
	}
	return found
}

// each calls fn for all that is in a tree, and for itself. It tells whether
// that is the whole tree: some of it may not be read, or be below a mount.
func (t *tree) each(proc *procfs, fn func(path string, ino uint64)) (whole bool, err error) {
	root, err := os.OpenRoot(fmt.Sprintf("%s/self/fd/%d", proc.dir.Name(), t.fd))
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	whole = true
	err = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = e.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, fs.ErrPermission):
			whole = false
			return nil
		case err != nil:
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Dev == t.id.dev {
			fn(path, st.Ino)
			return nil
		}
		whole = false
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return whole, err
}
