package archive

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/store/manifest"
)

// A Donor is an installed tree from which unchanged files are linked.
type Donor struct {
	// Files is the open directory, on which the caller holds a read lock, so
	// that it is whole.
	Files *os.File
	// Entries are those of its manifest. After an error nothing more of the
	// donor is used.
	Entries iter.Seq2[manifest.Entry, error]
}

// donors find files of the same content and metadata. Everything but newDonors
// may be called in several goroutines.
type donors struct {
	mu       sync.Mutex // of all below, and of the trails
	trees    []*trail
	names    []string // of the trees
	lockFile string   // what is never linked
	verify   bool
	owner    unix.Stat_t // whom files of ours belong to
	entries  []candidate
	byDigest map[[sha256.Size]byte]int32 // first of those with the digest
	byLooks  map[looks][]int32           // those that do not fit into a small block
	locks    map[[sha256.Size]byte]bool  // digests of lock files, whose inode others may share
	used     map[id]bool
	changed  []string
}

// A candidate is a file of a donor, as its manifest has it.
type candidate struct {
	tree int32
	next int32 // with the same digest, or -1
	path string
	looks
	digest [sha256.Size]byte
}

// looks are what is known of a file before it is read.
type looks struct {
	size int64
	mode uint32
	sec  int64
	nsec int32
}

func looksOf(size int64, mode uint32, t time.Time) looks {
	return looks{size, mode, t.Unix(), int32(t.Nanosecond())}
}

// newDonors reads the manifests. work is a directory of the new tree. Lock
// files are not for sharing, and neither are empty files: one inode for two of
// them would be one lock.
func newDonors(list []Donor, work int, lockFile string, verify bool) (*donors, error) {
	if len(list) == 0 {
		return nil, nil
	}
	d := &donors{
		lockFile: lockFile, verify: verify,
		byDigest: make(map[[sha256.Size]byte]int32), byLooks: make(map[looks][]int32),
		locks: make(map[[sha256.Size]byte]bool), used: make(map[id]bool),
	}
	if err := unix.Fstat(work, &d.owner); err != nil {
		return nil, failed("look at", workName, err)
	}
	for _, donor := range list {
		fd, err := openDir(int(donor.Files.Fd()), ".")
		if err != nil {
			d.close()
			return nil, failed("open", donor.Files.Name(), err)
		}
		d.trees, d.names = append(d.trees, &trail{root: hold(fd)}), append(d.names, donor.Files.Name())
		for e, err := range donor.Entries {
			if err != nil {
				d.changed = append(d.changed, fmt.Sprintf("%s: %v", donor.Files.Name(), err))
				break
			}
			switch {
			case e.Type != manifest.File || e.Size == 0:
			case path.Base(e.Path) == lockFile:
				d.locks[e.Digest] = true
			default:
				d.add(int32(len(d.trees)-1), e)
			}
		}
	}
	return d, nil
}

func (d *donors) close() {
	if d == nil {
		return
	}
	for _, t := range d.trees {
		t.cut(0)
		t.root.leave()
	}
}

// add enters a file, unless an earlier donor has the same at the same path:
// that is most likely the same inode.
func (d *donors) add(tree int32, e manifest.Entry) {
	c := candidate{tree, -1, e.Path, looksOf(e.Size, e.Mode, e.Time), e.Digest}
	first, known := d.byDigest[e.Digest]
	if known {
		for i := first; i >= 0; i = d.entries[i].next {
			if other := d.entries[i]; other.path == c.path && other.looks == c.looks {
				return
			}
		}
		c.next = first
	}
	i := int32(len(d.entries))
	d.entries = append(d.entries, c)
	d.byDigest[e.Digest] = i
	if e.Size > smallBlock {
		d.byLooks[c.looks] = append(d.byLooks[c.looks], i)
	}
}

// give links a file with that digest from a donor, if one has it. content is
// all of it, or nil where only the digest is known.
func (d *donors) give(f *regularFile, digest [sha256.Size]byte, content []byte) (linked bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first, known := d.byDigest[digest]
	if !known || f.name == d.lockFile || d.locks[digest] {
		return false, nil
	}
	for i := first; i >= 0; i = d.entries[i].next {
		c := &d.entries[i]
		if c.looks != looksOf(f.size, f.mode, f.time) {
			continue
		}
		if d.verify && !d.intact(c, content) {
			continue
		}
		if linked, err := d.link(c, f); linked || err != nil {
			return linked, err
		}
	}
	return false, nil
}

// link gives a donor's file the new name, if it still is what the manifest
// says. A file is linked once: what is two files in the archive stays two.
func (d *donors) link(c *candidate, f *regularFile) (bool, error) {
	dir, name, err := d.locate(c)
	if err != nil {
		return false, nil
	}
	var st unix.Stat_t
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || !c.matches(&st) {
		if err == nil || isOther(err) {
			d.report(c)
		}
		return false, nil
	}
	if st.Uid != d.owner.Uid || st.Gid != d.owner.Gid || d.used[idOf(&st)] || !sameXattrs(dir, name, f.xattrs) {
		return false, nil
	}
	switch err := unix.Linkat(dir, name, f.dir.fd, f.name, 0); err {
	case nil:
	case unix.EMLINK, unix.EXDEV, unix.EPERM, unix.EACCES, unix.ENOENT:
		return false, nil
	default:
		return false, failed("link", f.member, err)
	}
	d.used[idOf(&st)] = true
	f.inode.time, f.inode.digest, f.inode.linked = f.time, c.digest, true
	return true, nil
}

func (c *candidate) matches(st *unix.Stat_t) bool {
	sec, nsec := st.Mtim.Unix()
	return st.Mode == unix.S_IFREG|c.mode && c.looks == looks{st.Size, c.mode, sec, int32(nsec)}
}

// locate goes to the directory of a candidate.
func (d *donors) locate(c *candidate) (dir int, name string, err error) {
	parts := strings.Split(c.path, "/")
	last := len(parts) - 1
	dir, err = d.trees[c.tree].cd(parts[:last])
	if isOther(err) {
		d.report(c)
	}
	return dir, parts[last], err
}

// report notes that a file is not what the manifest says.
func (d *donors) report(c *candidate) {
	if file := d.names[c.tree] + "/" + c.path; !slices.Contains(d.changed, file) {
		d.changed = append(d.changed, file)
	}
}

// open opens a candidate if it looks like what the manifest says.
func (d *donors) open(c *candidate) (fd int, ok bool) {
	dir, name, err := d.locate(c)
	if err != nil {
		return -1, false
	}
	fd, err = openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	var st unix.Stat_t
	if err == nil && unix.Fstat(fd, &st) == nil && c.matches(&st) {
		return fd, true
	}
	if err == nil {
		unix.Close(fd)
	}
	if err == nil || isOther(err) {
		d.report(c)
	}
	return -1, false
}

// isOther tells errors of a file that is not there, or something else, from
// those of one that we may not look at: nobody has changed that.
func isOther(err error) bool { return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP }

// intact reads a candidate's content and compares it, with what the file is to
// have or with the manifest.
func (d *donors) intact(c *candidate, content []byte) bool {
	fd, ok := d.open(c)
	if !ok {
		return false
	}
	f := os.NewFile(uintptr(fd), c.path)
	defer f.Close()
	same := false
	if content != nil {
		got := make([]byte, len(content))
		_, err := io.ReadFull(f, got)
		same = err == nil && bytes.Equal(got, content)
	} else {
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		same = err == nil && n == c.size && [sha256.Size]byte(sum.Sum(nil)) == c.digest
	}
	if !same {
		d.report(c)
	}
	return same
}

// likely opens the first donor's file that has the looks of one that is too
// large to be read before it is known where it goes.
func (d *donors) likely(f *regularFile) (c *candidate, fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.name == d.lockFile {
		return nil, -1
	}
	var found *candidate
	for _, i := range d.byLooks[looksOf(f.size, f.mode, f.time)] {
		if c := &d.entries[i]; !d.locks[c.digest] && (found == nil || path.Base(c.path) == f.name) {
			found = c
		}
	}
	if found == nil {
		return nil, -1
	}
	if fd, ok := d.open(found); ok {
		return found, fd
	}
	return nil, -1
}

// sameXattrs tells whether a file has exactly those user.* attributes, and no
// others that a new file would not have: a capability, or an access list.
func sameXattrs(dir int, name string, want map[string]string) bool {
	// There is no call that takes a descriptor and a name before Linux 6.13.
	file := fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
	n, err := unix.Llistxattr(file, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return len(want) == 0
	}
	if err != nil {
		return false
	}
	list := make([]byte, n)
	if n, err = unix.Llistxattr(file, list); err != nil {
		return false
	}
	have := 0
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if attr == "security.capability" || strings.HasPrefix(attr, "system.posix_acl_") {
			return false
		}
		if !strings.HasPrefix(attr, "user.") {
			continue
		}
		have++
		value, ok := want[attr]
		got := make([]byte, len(value)+1)
		n, err := unix.Lgetxattr(file, attr, got)
		if !ok || err != nil || string(got[:n]) != value {
			return false
		}
	}
	return have == len(want)
}
