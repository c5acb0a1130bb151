package store_test

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/lock"
	"berth/store"
	"berth/store/archive"
)

func TestInstallPublishesAWholeDeployment(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := newStore(t)
	done, err := s.Install(t.Context(), artifact(t, "demo@1.0"), store.InstallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !done.Activated || done.Already || done.Warning != nil {
		t.Errorf("the first version: %+v", done)
	}
	d, err := s.Lookup(store.Ref{Name: "demo"})
	if err != nil || d.Err != nil {
		t.Fatal(err, d.Err)
	}
	if d.Ref.Version != "1.0" || !d.Current || d.Pinned || d.Deferred || d.Locked != store.No || d.Size != int64(len("tool of demo@1.0")) ||
		d.Installed.IsZero() || d.Activated.IsZero() || !strings.HasPrefix(d.Digest, "sha256:") || !strings.HasSuffix(d.Origin, "a.tar") {
		t.Errorf("described as %+v", d)
	}
	for name, mode := range map[string]os.FileMode{
		".": 0o755, "files": 0o755, "files/.ref": 0o644, "metadata": 0o644,
		"manifest.mtree.gz": 0o644, "deployment.toml": 0o644, "files/bin": 0o555, "activated": 0o644,
	} {
		info, err := os.Lstat(filepath.Join(d.Path(), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	info, _ := os.Lstat(filepath.Join(d.Path(), "files/.ref"))
	if st := info.Sys().(*syscall.Stat_t); info.Size() != 0 || st.Nlink != 1 {
		t.Errorf(".ref: %+v", st)
	}
	for name, mode := range map[string]os.FileMode{"": 0o755, "lock": 0o600, "store.toml": 0o644, "runtimes": 0o755, "trash": 0o755, "staging": 0o755} {
		info, err := os.Lstat(filepath.Join(s.Path(), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("STORE/%s: %v, %v", name, info, err)
		}
	}
	if ref, found, err := s.Verify(t.Context(), store.Ref{Name: "demo"}, nil); err != nil || len(found) > 0 || ref.Version != "1.0" {
		t.Errorf("verify: %v, %v, %v", ref, found, err)
	}
	wantClean(t, s)

	again, err := s.Install(t.Context(), artifact(t, "demo@1.0"), store.InstallOptions{})
	if err != nil || !again.Already {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func TestASecondVersionBecomesCurrentOnlyWhenAsked(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	if d, err := s.Lookup(store.Ref{Name: "demo"}); err != nil || d.Ref.Version != "1.0" {
		t.Errorf("current is %+v, %v", d, err)
	}
	done, err := s.Install(t.Context(), artifact(t, "demo@2.0"), store.InstallOptions{Activate: true})
	if err != nil || !done.Already || !done.Activated {
		t.Errorf("switching to what is installed: %+v, %v", done, err)
	}
	done, err = s.Install(t.Context(), artifact(t, "demo@3.0"), store.InstallOptions{Activate: true, NoSync: true})
	if err != nil || !done.Activated {
		t.Errorf("%+v, %v", done, err)
	}
	if d, err := s.Lookup(store.Ref{Name: "demo"}); err != nil || d.Ref.Version != "3.0" {
		t.Errorf("current is %+v, %v", d, err)
	}
}

func TestInstallOfABadArchivePublishesNothing(t *testing.T) {
	s := newStore(t)
	a := artifact(t, "demo@1.0", tar.Header{Name: "files/../../../escape", Typeflag: tar.TypeReg, Mode: 0o644})
	_, err := s.Install(t.Context(), a, store.InstallOptions{})
	if !errors.Is(err, archive.ErrUnsafe) || !strings.Contains(err.Error(), `"files/../../../escape"`) {
		t.Errorf("got %v", err)
	}
	wantVersions(t, s)
	wantClean(t, s)
	_, err = s.Install(t.Context(), artifact(t, "demo@1.0"), store.InstallOptions{MaxSize: 10})
	if !errors.Is(err, archive.ErrTooBig) {
		t.Errorf("got %v", err)
	}
	wantClean(t, s)
}

func TestInstallObeysTheContext(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	opt := store.InstallOptions{Read: func(int64) { cancel() }}
	if _, err := s.Install(ctx, artifact(t, "demo@1.0"), opt); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantVersions(t, s)
	wantClean(t, s)
}

func TestConcurrentInstallsOfOneVersionDoTheWorkOnce(t *testing.T) {
	s := newStore(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	unpacked := 0
	for range 8 {
		a := artifact(t, "demo@1.0")
		wg.Go(func() {
			done, err := create(t, s.Path()).Install(context.Background(), a, store.InstallOptions{NoSync: true})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if !done.Already {
				unpacked++
			}
		})
	}
	wg.Wait()
	if unpacked != 1 {
		t.Errorf("unpacked %d times", unpacked)
	}
	wantVersions(t, s, "demo@1.0")
	wantClean(t, s)
}

func TestForceReplacesInPlace(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	force := store.InstallOptions{Force: true, NoSync: true}
	if _, err := s.Pin(t.Context(), parse(t, "demo@1.0")); err != nil {
		t.Fatal(err)
	}
	before, err := s.Lookup(parse(t, "demo@1.0"))
	must(t, err)
	must(t, os.WriteFile(before.Path()+"/files/bin/tool", []byte("spoilt"), 0o755))

	hold, err := s.Hold(t.Context(), parse(t, "demo@1.0"))
	must(t, err)
	if _, err := s.Install(t.Context(), artifact(t, "demo@1.0"), force); !errors.Is(err, lock.ErrBusy) {
		t.Errorf("beside a reader: %v", err)
	}
	wantClean(t, s)
	must(t, hold.Release())

	done, err := s.Install(t.Context(), artifact(t, "demo@1.0"), force)
	if err != nil || !done.Replaced || done.Already {
		t.Fatalf("%+v, %v", done, err)
	}
	after, err := s.Lookup(parse(t, "demo@1.0"))
	if err != nil || after.Err != nil || !after.Current || !after.Pinned || !after.Activated.Equal(before.Activated) {
		t.Errorf("%+v, %v", after, err)
	}
	if _, found, err := s.Verify(t.Context(), parse(t, "demo@1.0"), nil); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	wantClean(t, s)

	must(t, s.Defer(t.Context(), parse(t, "demo@2.0")))
	force.Activate = true
	if done, err = s.Install(t.Context(), artifact(t, "demo@2.0"), force); err != nil || !done.Activated {
		t.Errorf("%+v, %v", done, err)
	}
	if d, err := s.Lookup(store.Ref{Name: "demo"}); err != nil || d.Ref.Version != "2.0" || d.Deferred {
		t.Errorf("%+v, %v", d, err)
	}
	if done, err = s.Install(t.Context(), artifact(t, "demo@3.0"), force); err != nil || done.Replaced {
		t.Errorf("what was not there: %+v, %v", done, err)
	}
	wantVersions(t, s, "demo@1.0", "demo@2.0", "demo@3.0")
	wantClean(t, s)
}

// Killed between the exchange and the move, the old tree lies in the stage. It
// is deleted like one in the trash: not while somebody uses it.
func TestAnExchangedTreeInAStageIsTrash(t *testing.T) {
	s := newStore(t)
	install(t, s, "demo@1.0", "demo@2.0")
	stage := filepath.Join(s.Path(), "staging/demo@2.0")
	must(t, os.Mkdir(stage, 0o755))
	must(t, os.WriteFile(stage+"/lock", nil, 0o600))
	must(t, os.Rename(filepath.Join(s.Path(), "runtimes/demo/2.0"), stage+"/tree"))
	reader, err := os.Open(stage + "/tree/files/.ref")
	must(t, err)
	must(t, lock.Try(reader, lock.Read))
	done, err := s.Drain(t.Context())
	if err != nil || len(done) != 1 || !errors.Is(done[0].Err, lock.ErrBusy) {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := os.Stat(stage + "/tree/files/bin/tool"); err != nil {
		t.Errorf("it was touched: %v", err)
	}
	reader.Close()
	if _, err = s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	wantClean(t, s)
}

// Somebody has "cleaned up" while the store was open.
func TestInstallEndsWhenTheStagingDirectoryIsGone(t *testing.T) {
	s := newStore(t)
	must(t, os.Remove(filepath.Join(s.Path(), "staging")))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	done := make(chan error, 1)
	a := artifact(t, "demo@1")
	go func() {
		_, err := s.Install(ctx, a, store.InstallOptions{NoSync: true})
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("installed")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it turns for ever, also after the end of its context")
	}
}
