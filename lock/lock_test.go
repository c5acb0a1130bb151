package lock_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"berth/lock"
)

// newRef makes a lock file as a deployment has one.
func newRef(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".ref")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func mustTry(t *testing.T, f *os.File, m lock.Mode) {
	t.Helper()
	if err := lock.Try(f, m); err != nil {
		t.Fatalf("cannot take the %s lock: %v", m, err)
	}
}

func mustBeBusy(t *testing.T, f *os.File, m lock.Mode) {
	t.Helper()
	if err := lock.Try(f, m); !errors.Is(err, lock.ErrBusy) {
		t.Fatalf("the %s lock: got %v, want ErrBusy", m, err)
	}
}

// peer is a Python that does something with the file and says "ready", and
// ends when its input does.
func peer(t *testing.T, script, path string, extra ...*os.File) (end func()) {
	t.Helper()
	const head = "import fcntl, os, struct, sys\npath = sys.argv[1]\n"
	const tail = "\nprint('ready', flush=True)\nsys.stdin.read()\n"
	cmd := exec.Command("/usr/bin/python3", "-c", head+script+tail, path)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = extra
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("needs python3: %v", err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			in.Close()
			cmd.Wait()
		}
	}
	t.Cleanup(end)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the peer said %q, %v", line, err)
	}
	go io.Copy(io.Discard, out)
	return end
}

// ask runs a Python that prints one word.
func ask(t *testing.T, script, path string) string {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", "-c", "import fcntl, os, struct, sys\npath = sys.argv[1]\n"+script, path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("needs python3: %v", err)
	}
	return strings.TrimSpace(string(out))
}

const (
	posixRead  = "f = open(path); fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)"
	posixWrite = "f = open(path, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
	// As Flatpak asks before it deletes: would a write lock be granted?
	flatpakProbe = `
f = open(path, 'r+')
lk = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
typ, _, _, _, pid = struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, lk))
print({fcntl.F_UNLCK: 'free', fcntl.F_RDLCK: 'read', fcntl.F_WRLCK: 'write'}[typ], pid)`
	tryPosixWrite = `
f = open(path, 'r+')
try:
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print('granted')
except BlockingIOError:
    print('busy')`
)

func TestReadersShareAndAWriterIsAlone(t *testing.T) {
	path := newRef(t)
	first, second := open(t, path, os.O_RDONLY), open(t, path, os.O_RDONLY)
	writer := open(t, path, os.O_RDWR)
	mustTry(t, first, lock.Read)
	mustTry(t, second, lock.Read)
	mustBeBusy(t, writer, lock.Write)
	first.Close()
	mustBeBusy(t, writer, lock.Write)
	if err := lock.Unlock(second); err != nil {
		t.Fatal(err)
	}
	mustTry(t, writer, lock.Write)
	mustBeBusy(t, second, lock.Read)
}

// A process-associated lock would be lost here.
func TestClosingAnotherDescriptorKeepsTheLock(t *testing.T) {
	path := newRef(t)
	holder := open(t, path, os.O_RDONLY)
	mustTry(t, holder, lock.Read)
	other, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	mustBeBusy(t, open(t, path, os.O_RDWR), lock.Write)
}

func TestTryConvertsItsOwnLock(t *testing.T) {
	path := newRef(t)
	f, other := open(t, path, os.O_RDWR), open(t, path, os.O_RDONLY)
	mustTry(t, f, lock.Read)
	mustTry(t, f, lock.Write)
	mustBeBusy(t, other, lock.Read)
	mustTry(t, f, lock.Read)
	mustTry(t, other, lock.Read)
}

func TestLocksOfPythonOnEitherSide(t *testing.T) {
	path := newRef(t)
	end := peer(t, posixRead, path)
	writer := open(t, path, os.O_RDWR)
	mustBeBusy(t, writer, lock.Write)
	mustTry(t, open(t, path, os.O_RDONLY), lock.Read)
	end()
	path = newRef(t)
	end = peer(t, posixWrite, path)
	mustBeBusy(t, open(t, path, os.O_RDONLY), lock.Read)
	end()

	path = newRef(t)
	holder := open(t, path, os.O_RDONLY)
	mustTry(t, holder, lock.Read)
	if got := ask(t, tryPosixWrite, path); got != "busy" {
		t.Errorf("Python's write lock beside our read lock: %s", got)
	}
	holder.Close()
	if got := ask(t, tryPosixWrite, path); got != "granted" {
		t.Errorf("Python's write lock on a free file: %s", got)
	}
}

func TestFlatpaksProbeSeesOurReader(t *testing.T) {
	path := newRef(t)
	if got := ask(t, flatpakProbe, path); got != "free 0" {
		t.Errorf("before: %s", got)
	}
	mustTry(t, open(t, path, os.O_RDONLY), lock.Read)
	if got := ask(t, flatpakProbe, path); got != "read -1" {
		t.Errorf("F_GETLK for a write lock beside our reader: %s", got)
	}
}

// flock(1) is no protection, and must not be taken for one.
func TestFlockProtectsNothing(t *testing.T) {
	path := newRef(t)
	cmd := exec.Command("flock", "--exclusive", path, "sh", "-c", "echo ready; read line")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatalf("needs flock of util-linux: %v", err)
	}
	defer cmd.Wait()
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("flock said %q, %v", line, err)
	}
	mustTry(t, open(t, path, os.O_RDWR), lock.Write)
}

func TestProbeTakesNothingAndNamesTheConflict(t *testing.T) {
	path := newRef(t)
	reader := open(t, path, os.O_RDONLY) // enough for both modes
	probe := func(m lock.Mode) *lock.Conflict {
		t.Helper()
		c, err := lock.Probe(reader, m)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := probe(lock.Write); c != nil {
		t.Errorf("a free file: %+v", c)
	}
	end := peer(t, posixRead, path)
	if c := probe(lock.Write); c == nil || c.Mode != lock.Read || c.PID <= 0 {
		t.Errorf("beside a reader of F_SETLK: %+v", c)
	}
	if c := probe(lock.Read); c != nil {
		t.Errorf("readers do not conflict: %+v", c)
	}
	end()
	writer := open(t, path, os.O_RDWR)
	mustTry(t, writer, lock.Write)
	if c := probe(lock.Read); c == nil || c.Mode != lock.Write || c.PID != -1 {
		t.Errorf("beside a writer of F_OFD_SETLK: %+v", c)
	}
	writer.Close()
	mustTry(t, open(t, path, os.O_RDWR), lock.Write)
}

func TestInheritedLockLivesInTheChild(t *testing.T) {
	path := newRef(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	mustTry(t, f, lock.Read)
	fd, err := lock.Inherit(f)
	if err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		t.Fatalf("descriptor %d: flags %#x, %v", fd, flags, err)
	}
	end := peer(t, "", path)
	f.Close()
	writer := open(t, path, os.O_RDWR)
	mustBeBusy(t, writer, lock.Write)
	end()
	mustTry(t, writer, lock.Write)
}

func TestErrorsAreNotBusy(t *testing.T) {
	path := newRef(t)
	readOnly := open(t, path, os.O_RDONLY)
	err := lock.Try(readOnly, lock.Write)
	if !errors.Is(err, unix.EBADF) || errors.Is(err, lock.ErrBusy) {
		t.Errorf("a write lock through a descriptor for reading: %v", err)
	}
	var pathErr *os.PathError
	if !errors.As(err, &pathErr) || pathErr.Path != path {
		t.Errorf("the error does not name the file: %v", err)
	}
	closed, _ := os.Open(path)
	closed.Close()
	if err := lock.Try(closed, lock.Read); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file: %v", err)
	}
	if _, err := lock.Probe(closed, lock.Read); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file: %v", err)
	}
	if _, err := lock.Inherit(closed); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file: %v", err)
	}
}

// A file of /proc cannot be locked: the kernel says so with an error that is
// neither success nor "busy".
func TestUnlockableFileIsAnError(t *testing.T) {
	f := open(t, newRef(t), os.O_RDONLY)
	err := lock.Try(f, lock.Mode(77))
	if !errors.Is(err, lock.ErrUnsupported) || errors.Is(err, lock.ErrBusy) {
		t.Errorf("a kind of lock that the kernel does not know: %v", err)
	}
}

func TestWaitGetsTheLockWhenItIsFree(t *testing.T) {
	path := newRef(t)
	holder, waiter := open(t, path, os.O_RDONLY), open(t, path, os.O_RDWR)
	mustTry(t, holder, lock.Read)
	notices := 0
	done := make(chan error, 1)
	go func() {
		done <- lock.Wait(context.Background(), waiter, lock.Write, func() { notices++ })
	}()
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	holder.Close()
	select {
	case err := <-done:
		if err != nil || notices != 1 {
			t.Errorf("got %v after %d notices", err, notices)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("still waiting for a free lock")
	}
}

func TestWaitObeysTheContext(t *testing.T) {
	path := newRef(t)
	synctest.Test(t, func(t *testing.T) {
		holder, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer holder.Close()
		waiter, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer waiter.Close()
		mustTry(t, holder, lock.Read)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		start := time.Now()
		err = lock.Wait(ctx, waiter, lock.Write, nil)
		if !errors.Is(err, lock.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited != time.Hour {
			t.Errorf("waited %s for a context of an hour", waited)
		}
	})
}

func BenchmarkTryUnlock(b *testing.B) {
	path := filepath.Join(b.TempDir(), ".ref")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for b.Loop() {
		if err := lock.Try(f, lock.Read); err != nil {
			b.Fatal(err)
		}
		if err := lock.Unlock(f); err != nil {
			b.Fatal(err)
		}
	}
}
