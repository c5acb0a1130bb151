package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"berth/lock"
)

// A Finding is something about a store that a person should know.
type Finding struct {
	// Bad says that something is wrong. What is not bad is worth knowing.
	Bad  bool
	What string // "the trash holds 2 trees"
	Do   string // what to do about it; "" if nothing
}

// lowSpace is the share of a file system below which it is nearly full.
const lowSpace = 0.02

// Examine looks at the layout, the permissions, what is left over, and the
// file system of the store. It changes nothing but a file of its own in the
// staging directory, with which it tries locks; tryElsewhere, if not nil, is
// asked to try the write lock of that file in another process.
func (s *Store) Examine(ctx context.Context, tryElsewhere func(path string) error) ([]Finding, error) {
	x := &examination{store: s}
	for _, look := range []func(context.Context) error{
		x.layout, x.permissions, x.runtimes, x.leftovers, x.fileSystem,
	} {
		if err := look(ctx); err != nil {
			return x.found, fmt.Errorf("cannot examine the store %s: %w", s.Path(), err)
		}
	}
	if err := x.locks(tryElsewhere); err != nil {
		return x.found, fmt.Errorf("cannot try locks in the store %s: %w", s.Path(), err)
	}
	return x.found, nil
}

type examination struct {
	store *Store
	found []Finding
}

func (x *examination) bad(do, format string, args ...any) {
	x.found = append(x.found, Finding{true, fmt.Sprintf(format, args...), do})
}

func (x *examination) know(do, format string, args ...any) {
	x.found = append(x.found, Finding{false, fmt.Sprintf(format, args...), do})
}

func (x *examination) layout(context.Context) error {
	known := map[string]bool{formatFile: true, lockFile: true, runtimesDir: true, stagingDir: true, trashDir: true}
	list, err := x.store.root.entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		if !known[e.Name()] {
			x.bad("move it out of the store", "%q is no part of a store", x.store.root.path(e.Name()))
		}
	}
	there := make(map[string]bool)
	for _, e := range list {
		there[e.Name()] = true
	}
	for _, name := range []string{lockFile, stagingDir, trashDir} {
		if !there[name] {
			x.know("the next change makes it again", "%q is missing", x.store.root.path(name))
		}
	}
	list, err = x.store.runtimes.entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		if !e.IsDir() || !ValidName(e.Name()) {
			x.bad("move it out of the store", "%q is no runtime", x.store.runtimes.path(e.Name()))
		}
	}
	return nil
}

// permissions looks for accounts that could change the store besides its owner.
func (x *examination) permissions(context.Context) error {
	path, err := filepath.EvalSymlinks(x.store.Path())
	if err != nil {
		return err
	}
	owner, err := fstat(x.store.root.File)
	if err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			return &os.PathError{Op: "stat", Path: at, Err: err}
		}
		writable := st.Mode&0o022 != 0
		sticky := st.Mode&unix.S_ISVTX != 0 && at != path
		if writable && !sticky {
			x.bad("chmod go-w "+at, "%q can be written to by other accounts (mode %04o)", at, st.Mode&0o7777)
		}
		if st.Uid != 0 && st.Uid != owner.Uid {
			x.bad("chown it, or move the store", "%q belongs to another account (%d)", at, st.Uid)
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	for _, part := range []dir{x.store.runtimes, x.store.staging, x.store.trash} {
		if part.File == nil {
			continue
		}
		st, err := fstat(part.File)
		if err != nil {
			return err
		}
		x.ours(part.Name(), &st, owner.Uid)
	}
	if st, err := x.store.root.lstat(lockFile); err == nil && st.Mode&0o077 != 0 {
		at := x.store.root.path(lockFile)
		x.bad("chmod 600 "+at, "%q can be locked for ever by other accounts (mode %04o)", at, st.Mode&0o7777)
	}
	return x.below(x.store.runtimes, owner.Uid, ValidName, func(rt dir) error {
		return x.below(rt, owner.Uid, ValidVersion, func(dep dir) error {
			return x.below(dep, owner.Uid, func(name string) bool { return name == filesDir }, nil)
		})
	})
}

// below looks at the directories in d that have such a name, and goes on inside
// each: who can write to one of them can exchange a lock file for another. What
// is taken away meanwhile is left out.
func (x *examination) below(d dir, owner uint32, named func(string) bool, inside func(dir) error) error {
	list, err := d.entries()
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range list {
		if !e.IsDir() || !named(e.Name()) {
			continue
		}
		st, err := d.lstat(e.Name())
		if err == nil {
			x.ours(d.path(e.Name()), &st, owner)
		}
		if err == nil && inside != nil {
			var sub dir
			if sub, err = d.openDir(e.Name()); err == nil {
				err = inside(sub)
				sub.Close()
			}
		}
		if ignoreMissing(err) != nil {
			return err
		}
	}
	return nil
}

// ours looks whether a directory is its owner's alone to change, and he the
// store's.
func (x *examination) ours(path string, st *unix.Stat_t, owner uint32) {
	if st.Mode&0o022 != 0 {
		advice := "chmod go-w " + path
		if filepath.Base(path) == filesDir {
			advice += ", which verify will report: the mode is the archive's"
		}
		x.bad(advice, "%q can be changed by other accounts (mode %04o)", path, st.Mode&0o7777)
	}
	if st.Uid != owner {
		x.bad("chown it to the owner of the store", "%q belongs to another account (%d)", path, st.Uid)
	}
}

func (x *examination) runtimes(context.Context) error {
	names, err := x.store.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		list, err := x.store.listRuntime(name)
		if errors.Is(err, ErrNotFound) {
			x.know("'berth install' a version, or rmdir it", "%s has no version", name)
			continue
		}
		if err != nil {
			return err
		}
		x.runtime(name, list)
	}
	return nil
}

func (x *examination) runtime(name string, list []Deployment) {
	current := ""
	_, linkErr := x.store.currentVersion(name)
	for _, d := range list {
		if d.Err != nil && (linkErr == nil || d.Err.Error() != linkErr.Error()) {
			x.bad(x.mend(d.Ref), "%s: %v", d.Ref, d.Err)
		}
		x.linked(d.Ref)
		if d.Current {
			current = d.Ref.Version
		}
		if d.Deferred {
			x.know("'berth ps "+d.Ref.String()+"' shows who uses it, 'berth gc' removes it then", "%s is to be removed once it is free", d.Ref)
		}
	}
	if current != "" {
		return
	}
	rt, err := x.store.runtime(name)
	if err != nil {
		return
	}
	defer rt.Close()
	if version, err := currentOf(rt); err != nil || version != "" {
		x.bad("'berth switch' to one that is installed", "the current version of %s is not installed", name)
	} else {
		x.know("'berth switch' to one", "no version of %s is current", name)
	}
}

// mend says what helps a broken deployment: repair makes what is missing, and
// takes nothing away that it did not expect.
func (x *examination) mend(ref Ref) string {
	repair := "'berth repair " + ref.String() + "'"
	dep, err := x.store.openDeployment(ref)
	if err != nil {
		return repair
	}
	defer dep.Close()
	for _, part := range []struct {
		name string
		kind uint32
	}{{filesDir, unix.S_IFDIR}, {filesDir + "/" + refFile, unix.S_IFREG}} {
		st, err := dep.lstat(part.name)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return repair
		case err == nil && st.Mode&unix.S_IFMT != part.kind:
			return "remove " + part.name + " by hand, then " + repair
		}
	}
	if there, err := dep.exists(deploymentFile); err == nil && !there {
		return "'berth install --force' it again"
	}
	return repair + ", or remove it and install it again"
}

// linked looks whether a lock file is the deployment's alone.
func (x *examination) linked(ref Ref) {
	dep, err := x.store.openDeployment(ref)
	if err != nil {
		return
	}
	defer dep.Close()
	name := filesDir + "/" + refFile
	if st, err := dep.lstat(name); err == nil && isRegular(&st) && st.Nlink > 1 {
		x.bad("when nobody uses it, remove "+name+" by hand, then 'berth repair "+ref.String()+"'",
			"%q has %d links, which are one lock", dep.path(name), st.Nlink)
	}
}

func (x *examination) leftovers(ctx context.Context) error {
	trash, _, err := x.store.Trash(ctx)
	if err != nil {
		return err
	}
	for _, t := range trash {
		if len(t.Uses) > 0 {
			x.know("", "%s waits in the trash: %v", t.Ref, &InUseError{Uses: t.Uses})
		} else {
			x.know("'berth gc' removes it", "%s is left in the trash", t.Ref)
		}
	}
	list, err := x.store.trash.entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		if !e.IsDir() {
			x.bad("move it out of the store", "%q is no tree", x.store.trash.path(e.Name()))
		}
	}
	stages, err := x.store.staging.entries()
	if err != nil {
		return err
	}
	for _, e := range stages {
		switch _, err := ParseRef(e.Name()); {
		case err != nil && e.IsDir():
			x.bad("move it out of the store", "%q is no stage", x.store.staging.path(e.Name()))
		case x.store.stageAlive(e.Name()):
			x.know("", "%s is being installed", e.Name())
		default:
			x.know("'berth gc' removes it", "%q is left of an installation", e.Name())
		}
	}
	return nil
}

// stageAlive tells whether an installer holds a stage, as far as can be told.
func (s *Store) stageAlive(name string) bool {
	st, err := s.staging.openDir(name)
	if err != nil {
		return false
	}
	defer st.Close()
	f, err := st.openFile(lockFile, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	conflict, err := lock.Probe(f, lock.Write)
	return err == nil && conflict != nil
}

func (x *examination) fileSystem(ctx context.Context) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(x.store.root.Fd()), &st); err != nil {
		return x.store.root.fail("statfs", ".", err)
	}
	if float64(st.Bavail) < lowSpace*float64(st.Blocks) {
		x.bad("'berth gc', or set min-free", "the file system has %d MiB free", int64(st.Bavail)*st.Bsize>>20)
	}
	if st.Files > 0 && float64(st.Ffree) < lowSpace*float64(st.Files) {
		x.bad("'berth gc'", "the file system has %d inodes free", st.Ffree)
	}
	if name := networkFileSystem(int64(st.Type)); name != "" {
		x.know("collect where the programs run, and only there",
			"the store is on %s: programs on other machines count only while they hold a lock", name)
	}
	if x.store.opt.Looker == nil {
		return nil
	}
	sight, err := x.store.opt.Looker.Look(ctx, []Tree{{Dir: x.store.root.File, Path: x.store.Path()}})
	if err != nil {
		return err
	}
	for _, b := range sight.Blind {
		x.know("see 'require-complete-evidence' of the configuration", "%s cannot be seen", b.Text)
	}
	return nil
}

// networkFileSystem names the file system of a kind (statfs(2)) that other
// machines may use too, or "". What lies behind FUSE does not show.
func networkFileSystem(kind int64) string {
	switch uint32(kind) {
	case unix.NFS_SUPER_MAGIC:
		return "NFS"
	case unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "SMB"
	case unix.CEPH_SUPER_MAGIC:
		return "Ceph"
	case unix.AFS_FS_MAGIC, unix.AFS_SUPER_MAGIC:
		return "AFS"
	case unix.CODA_SUPER_MAGIC:
		return "Coda"
	case unix.OCFS2_SUPER_MAGIC:
		return "OCFS2"
	case unix.V9FS_MAGIC:
		return "9p"
	}
	return ""
}

// lockTest begins the name of a file in the staging directory with which locks
// are tried. A drain leaves it alone for as long as it is locked.
const lockTest = "lock-test."

// locks tries that one lock excludes another: in this process, through a
// second open file, and in another one.
func (x *examination) locks(tryElsewhere func(string) error) error {
	name := fmt.Sprintf("%s%d", lockTest, os.Getpid())
	if x.store.staging.File == nil {
		return nil
	}
	f, err := x.store.staging.createFile(name, 0o644)
	if errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) {
		x.know("", "locks were not tried: the store cannot be written to")
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	defer x.store.staging.unlink(name)
	if err := lock.Try(f, lock.Read); err != nil {
		x.bad("move the store to another file system", "the file system has no locks: %v", err)
		return nil
	}
	second, err := x.store.staging.openFile(name, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer second.Close()
	if err := lock.Try(second, lock.Write); !errors.Is(err, lock.ErrBusy) {
		x.bad("move the store to another file system", "a read lock does not exclude a write lock: %v", err)
	}
	if tryElsewhere == nil {
		return nil
	}
	if err := tryElsewhere(f.Name()); !errors.Is(err, lock.ErrBusy) {
		x.bad("move the store to another file system", "a lock of one process does not exclude that of another: %v", err)
	}
	return nil
}
