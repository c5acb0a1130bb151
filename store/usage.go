package store

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// An Extent is space that the deployments Owners share by hard links, or that
// one has alone: removing all of them frees it, removing fewer frees nothing.
type Extent struct {
	Bytes  int64
	Owners []int // indexes, ascending
	// Elsewhere says that it has names outside of the deployments too, in the
	// trash or in somebody's copy: removing them frees none of it.
	Elsewhere bool
}

// Usage is what deployments occupy.
type Usage struct {
	Used    int64 // bytes, each inode once
	Free    int64 // bytes of the file system that the caller may still use
	Extents []Extent
}

// Usage measures the deployments given, in bytes as the file system allocates
// them. What vanishes meanwhile, and what may not be read, counts nothing.
func (s *Store) Usage(ctx context.Context, deployments []Deployment) (Usage, error) {
	var u Usage
	var fsInfo unix.Statfs_t
	if err := unix.Fstatfs(int(s.root.Fd()), &fsInfo); err != nil {
		return u, s.root.fail("statfs", ".", err)
	}
	u.Free = int64(fsInfo.Bavail) * fsInfo.Bsize
	m := measurement{alone: make([]int64, len(deployments)), shared: make(map[fileID]*sharedInode)}
	for i, d := range deployments {
		m.owner = i
		if err := s.measure(ctx, &m, d); err != nil {
			return u, err
		}
	}
	u.Used, u.Extents = m.sum()
	return u, nil
}

func (s *Store) measure(ctx context.Context, m *measurement, d Deployment) error {
	rt, err := s.runtime(d.Ref.Name)
	if err != nil {
		return ignoreMissing(err)
	}
	defer rt.Close()
	dep, err := rt.openDir(d.Ref.Version)
	if err != nil {
		return ignoreMissing(err)
	}
	defer dep.Close()
	err = walkDirs(ctx, dep, ".", openCounted, m.directory)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}

// openCounted leaves out what is mounted in a version, which is not its own,
// and what may not be read.
func openCounted(d dir, name string) (dir, error) {
	sub, err := d.openSameMount(name)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, os.ErrPermission) {
		err = os.ErrNotExist
	}
	return sub, err
}

// measurement counts inodes with one name at once, and remembers the others.
type measurement struct {
	owner  int
	alone  []int64 // by owner
	shared map[fileID]*sharedInode
}

type sharedInode struct {
	bytes  int64
	unseen uint64 // names that have not been found
	owners []int
}

func (m *measurement) directory(d dir, _ string, list []fs.DirEntry) error {
	st, err := fstat(d.File)
	if err != nil {
		return err
	}
	m.alone[m.owner] += st.Blocks * 512
	for _, e := range list {
		if e.IsDir() {
			continue
		}
		st, err := d.lstat(e.Name())
		if err != nil {
			return err
		}
		m.inode(&st)
	}
	return nil
}

func (m *measurement) inode(st *unix.Stat_t) {
	if st.Nlink == 1 {
		m.alone[m.owner] += st.Blocks * 512
		return
	}
	in := m.shared[idOf(st)]
	if in == nil {
		in = &sharedInode{bytes: st.Blocks * 512, unseen: uint64(st.Nlink)}
		m.shared[idOf(st)] = in
	}
	if in.unseen > 0 {
		in.unseen--
	}
	if n := len(in.owners); n == 0 || in.owners[n-1] != m.owner {
		in.owners = append(in.owners, m.owner)
	}
}

// sum puts inodes with the same owners together.
func (m *measurement) sum() (used int64, extents []Extent) {
	for owner, bytes := range m.alone {
		used += bytes
		if bytes > 0 {
			extents = append(extents, Extent{Bytes: bytes, Owners: []int{owner}})
		}
	}
	groups := make(map[group]int)
	for _, in := range m.shared {
		used += in.bytes
		key := group{ownersKey(in.owners), in.unseen > 0}
		n, ok := groups[key]
		if !ok {
			n = len(extents)
			groups[key] = n
			extents = append(extents, Extent{Owners: in.owners, Elsewhere: key.elsewhere})
		}
		extents[n].Bytes += in.bytes
	}
	return used, extents
}

type group struct {
	owners    string
	elsewhere bool
}

func ownersKey(owners []int) string {
	key := make([]byte, 0, 4*len(owners))
	for _, o := range owners {
		key = append(key, byte(o>>24), byte(o>>16), byte(o>>8), byte(o))
	}
	return string(key)
}
