// Package occupancy finds out from proc(5) which processes use directory
// trees: who holds a lock on a file named .ref in them, and who maps, runs,
// sits in, has open or has mounted something of them with no lock.
//
// A path as /proc shows it is one of the mount namespace of whoever uses the
// file, and the same file can have many: a container sees TREE/files as /usr.
// An inode alone does not tell either, because trees share unchanged files as
// hard links. So every path is translated, by the mount through which the file
// is used (statx(2), proc_pid_mountinfo(5)), into the path in the file system,
// which is compared with that of the trees; then the file that has this path
// in the tree must be the very inode.
//
// Where nobody shows the mount, the inode is looked for in the trees, and found
// in all that share it. The layers of an overlay are known by the names that
// they were mounted by, and count where those fit.
//
// What it does not see: the descriptors and namespaces of single threads that
// share none with their process (unshare(2) in a thread); files
// that only io_uring(7), a descriptor in a socket's queue, a swap area or a
// loop device has open; mounts in a namespace without a process; a deleted file
// that is mapped through a mount which is gone itself. A process that begins to
// use a tree behind the pass is seen only if it is new.
package occupancy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"berth/store"
)

// Proc looks at the processes that a proc(5) shows.
type Proc struct {
	Root string // where it is mounted; "" is /proc
}

var _ store.Looker = (*Proc)(nil)

// New returns a Proc that looks into /proc.
func New() *Proc { return new(Proc) }

const (
	// tries bounds how often a pass looks at a process that is changing.
	tries = 6
	// patience bounds how long a pass goes on because there are new processes.
	patience = 2 * time.Second
	// moves bounds how often it starts again because a tree was renamed.
	moves = 5
)

var (
	errMoving   = errors.New("the trees are being renamed all the time")
	errRestless = errors.New("processes come and go faster than they can be looked at")
)

// Look is the pass of store.Looker. What it cannot read of single processes
// becomes a store.Blind; it fails if there is no usable procfs, if mountinfo
// cannot be understood, if descriptors or memory run out, and if for seconds
// there are new processes whenever all have been looked at.
func (p *Proc) Look(ctx context.Context, trees []store.Tree) (store.Sight, error) {
	root := p.Root
	if root == "" {
		root = "/proc"
	}
	proc, err := openProc(root)
	if err != nil {
		return store.Sight{}, fmt.Errorf("look for processes: %w", err)
	}
	defer proc.Close()
	defer runtime.KeepAlive(trees)
	for range moves {
		l, err := newLook(proc, trees)
		if err == nil {
			err = l.pass(ctx)
		}
		if ctx.Err() != nil {
			return store.Sight{}, context.Cause(ctx)
		}
		if err != nil {
			return store.Sight{}, fmt.Errorf("look for processes: %w", err)
		}
		if !l.index.moved(proc) {
			return l.sight()
		}
	}
	return store.Sight{}, fmt.Errorf("look for processes: %w", errMoving)
}

// look is one pass. What it knows of the trees does not change; spaces and
// seen grow.
type look struct {
	proc    *procfs
	own     string // our mount namespace
	index   *index
	overlay bool // some tree is on an overlayfs
	spaces  *spaces

	mu   sync.Mutex
	seen map[int]*seen
}

// worker is the part of a look that belongs to one goroutine.
type worker struct {
	*look
	link, entries, file []byte
	mapped              map[string]map[string]answer // by namespace, then part of a line
}

// seen is what was seen of one process.
type seen struct {
	pid       int
	namespace string // of mounts; "" if we may not know
	space     *namespace
	uses      []use
	denied    bool // something of it may not be read
	lost      []lost
	again     bool // it was changing
	tries     int
	who       process
}

type use struct {
	how store.How
	place
}

// add notes a use, one for each way unless it is one apart.
func (s *seen) add(how store.How, p place, apart bool) {
	if slices.ContainsFunc(s.uses, func(u use) bool {
		return u.how == how && u.tree == p.tree && (u.path == p.path || !apart && !isNothing(u))
	}) {
		return
	}
	s.uses = append(s.uses, use{how, p})
}

func (s *seen) note(how store.How, a answer) {
	s.again = s.again || a.again
	for _, p := range a.places {
		s.add(how, p, false)
	}
}

// failed sorts the errors of looking at one process.
func (w *worker) failed(err error, s *seen) error {
	switch {
	case gone(err):
		return nil
	case refused(err):
		s.denied = true
		return nil
	}
	return err
}

func newLook(proc *procfs, trees []store.Tree) (*look, error) {
	l := &look{proc: proc, spaces: newSpaces(), seen: map[int]*seen{}}
	var err error
	if l.own, err = readlink(proc.fd(), "self/ns/mnt", make([]byte, 64)); err != nil {
		return nil, err
	}
	own, err := l.readOwn()
	if err != nil {
		return nil, err
	}
	if l.index, err = newIndex(trees, proc, own, l.spaces.byID); err != nil {
		return nil, err
	}
	for _, t := range l.index.trees {
		l.overlay = l.overlay || t.mnt.fstype == "overlay"
	}
	own.used = l.index.mounted(own, rootDir{here, own})
	return l, nil
}

// readOwn reads our own mounts.
func (l *look) readOwn() (*namespace, error) {
	own := &namespace{}
	var buf []byte
	if err := own.read(l.proc.fd(), "self/mountinfo", "/", &buf); err != nil {
		return nil, err
	}
	if l.index != nil {
		own.add(l.index.made...)
		own.whole = len(l.index.made) == 0
		own.used = l.index.mounted(own, rootDir{here, own})
	}
	l.spaces.set(l.own, own)
	return own, nil
}

// pass looks at all processes, and again at those that are new since, until
// none is: a child may have taken over from a parent that was not looked at in
// time.
func (l *look) pass(ctx context.Context) error {
	buf := make([]byte, linkSize)
	began := time.Now()
	for round := 0; ; round++ {
		all, err := l.proc.pids(buf)
		if err != nil {
			return err
		}
		unread := all[:0]
		for _, pid := range all {
			if s := l.seen[pid]; pid != l.proc.self && (s == nil || s.again && s.tries < tries) {
				unread = append(unread, pid)
			}
		}
		if len(unread) == 0 {
			return ctx.Err()
		}
		if round > 0 && time.Since(began) > patience {
			return errRestless
		}
		if round > 0 {
			if _, err := l.readOwn(); err != nil {
				return err
			}
		}
		// All namespaces first: a descriptor may come from any of them.
		for _, step := range []func(*worker, int) error{(*worker).survey, (*worker).inspect} {
			if err := l.each(ctx, unread, step); err != nil {
				return err
			}
		}
	}
}

// each does a step for every process, on a few goroutines.
func (l *look) each(ctx context.Context, pids []int, step func(*worker, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	workers := min(max(2, runtime.GOMAXPROCS(0)), 8, len(pids))
	next := make(chan []int, workers)
	group.Go(func() error {
		defer close(next)
		for part := range slices.Chunk(pids, 16) {
			select {
			case next <- part:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			w := &worker{look: l, link: make([]byte, linkSize), entries: make([]byte, linkSize),
				file: make([]byte, linkSize), mapped: map[string]map[string]answer{}}
			for part := range next {
				for _, pid := range part {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := step(w, pid); err != nil {
						return fmt.Errorf("process %d: %w", pid, err)
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// inspect looks at one process and keeps what it saw.
func (w *worker) inspect(pid int) error {
	s := &seen{pid: pid, tries: 1}
	dir, thread, err := w.openProcess(pid)
	if err != nil && !refused(err) {
		return err
	}
	if err == nil && dir >= 0 {
		defer unix.Close(dir)
		if err := w.walk(dir, s); err != nil {
			return err
		}
	}
	s.denied = s.denied || err != nil
	// The thread may have ended while it was looked at, before others.
	s.again = s.again || thread && len(s.uses) == 0
	w.mu.Lock()
	if before := w.seen[pid]; before != nil {
		s.tries += before.tries
	}
	w.seen[pid] = s
	w.mu.Unlock()
	return nil
}

func (w *worker) walk(dir int, s *seen) error {
	var err error
	s.namespace, err = readlink(dir, "ns/mnt", w.link)
	if err != nil {
		if err := w.failed(err, s); err != nil || !s.denied {
			return err
		}
		if err := w.deniedMounts(dir, s); err != nil {
			return err
		}
	} else if s.space = w.spaces.get(s.namespace); s.space == nil {
		s.again = true // it has changed its namespace since the survey
		s.space = &namespace{}
	}
	for _, link := range []struct {
		name string
		how  store.How
	}{{"root", store.ByRoot}, {"cwd", store.ByCwd}, {"exe", store.ByExe}} {
		if err := w.single(dir, link.name, link.how, s); err != nil {
			return err
		}
	}
	if err := w.threads(dir, s); err != nil {
		return err
	}
	if err := w.descriptors(dir, s); err != nil {
		return err
	}
	if err := w.maps(dir, s); err != nil {
		return err
	}
	if s.namespace != w.own && s.space != nil {
		s.note(store.ByMount, answer{places: s.space.used})
	}
	if len(s.uses) > 0 || len(s.lost) > 0 || s.denied || s.namespace == w.own && len(w.spaces.get(w.own).used) > 0 {
		s.who, err = w.describe(dir)
		return err
	}
	return nil
}

// sight puts the uses of the processes together by tree.
func (l *look) sight() (store.Sight, error) {
	denied := map[int]bool{}
	for pid, s := range l.seen {
		if s.denied {
			denied[pid] = true
		}
	}
	lockers, err := l.lockers(denied)
	if err != nil {
		return store.Sight{}, err
	}
	for pid, places := range lockers {
		for _, p := range places {
			l.seen[pid].add(store.ByLock, p, true)
		}
	}
	l.chargeOwnMounts()
	unplaced, err := l.findLost()
	if err != nil {
		return store.Sight{}, err
	}
	sight := store.Sight{Uses: make([][]store.Use, len(l.index.trees))}
	people := accounts{}
	for _, s := range l.seen {
		for _, u := range s.uses {
			sight.Uses[u.tree] = append(sight.Uses[u.tree], store.Use{
				PID: s.pid, Account: people.name(s.who.uid), Command: s.who.command, Since: s.who.since,
				How: u.how, Path: u.path,
			})
		}
	}
	for _, uses := range sight.Uses {
		slices.SortFunc(uses, func(a, b store.Use) int {
			return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.How, b.How), cmp.Compare(a.Path, b.Path))
		})
	}
	sight.Blind, err = l.blind(denied, unplaced)
	return sight, err
}

// chargeOwnMounts notes what of the trees is mounted in our own namespace with
// the first process there, since it is nobody's in particular.
func (l *look) chargeOwnMounts() {
	own := l.spaces.get(l.own)
	var first *seen
	for _, s := range l.seen {
		here := s.namespace == l.own
		if s.who.command == "" {
			continue
		}
		if first == nil || here && first.namespace != l.own ||
			here == (first.namespace == l.own) && s.pid < first.pid {
			first = s
		}
	}
	if first == nil { // nobody but us: still in use
		first = &seen{pid: l.proc.self}
		l.seen[first.pid] = first
	}
	for _, p := range own.used {
		first.add(store.ByMount, p, false)
	}
}

// isNothing tells a use that keeps no tree by itself (store.Use.Counts), and so
// must not stand for one that does.
func isNothing(u use) bool { return !store.Use{How: u.how, Path: u.path}.Counts() }
