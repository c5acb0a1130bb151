package test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// nobody is the account that some tests run the command as.
const nobody = 65534

// runtimes is where the real ones are, made of Debian packages.
func runtimes(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../build/runtimes", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("needs the runtimes of 'make runtimes': %v", err)
	}
	return path
}

// openDir is a temporary directory that every account may enter, owned by uid.
func openDir(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth-open-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A runtime may have directories that even root's tools need x for.
		exec.Command("chmod", "-R", "u+rwX", dir).Run()
		os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatalf("needs root: %v", err)
	}
	return dir
}

// as makes a command run as another account.
func as(cmd *exec.Cmd, uid int) *exec.Cmd {
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	return cmd
}

// member is everything that has to agree.
type member struct {
	kind   fs.FileMode
	mode   uint32
	size   int64
	time   int64 // nanoseconds
	target string
	digest string
	links  string // the other names of the inode
}

// members describes a tree, without the lock file at its top.
func members(t *testing.T, root string) map[string]member {
	t.Helper()
	found := make(map[string]member)
	names := make(map[uint64][]string)
	inodes := make(map[string]uint64)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if rel == ".ref" {
			return nil
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		m := member{kind: info.Mode().Type(), mode: st.Mode & 0o1777, time: info.ModTime().UnixNano()}
		switch {
		case info.Mode().IsRegular():
			m.size = info.Size()
			m.digest = digest(t, path)
			names[st.Ino] = append(names[st.Ino], rel)
			inodes[rel] = st.Ino
		case m.kind == fs.ModeSymlink:
			if m.target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		found[rel] = m
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for rel, ino := range inodes {
		m := found[rel]
		slices.Sort(names[ino])
		m.links = strings.Join(names[ino], " ")
		found[rel] = m
	}
	return found
}

func digest(t *testing.T, path string) string {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func compare(t *testing.T, got, want map[string]member) {
	t.Helper()
	different := 0
	for _, path := range slices.Sorted(maps.Keys(want)) {
		m, there := got[path]
		if there && m == want[path] {
			continue
		}
		if different++; different < 10 {
			t.Errorf("%q: %+v, tar has %+v", path, m, want[path])
		}
	}
	for path := range got {
		if _, there := want[path]; !there {
			t.Errorf("%q: tar does not have it", path)
		}
	}
	t.Logf("%d members, %d different", len(want), different)
	if len(want) < 1000 {
		t.Errorf("only %d members: that is no real runtime", len(want))
	}
}

// What install unpacks is what tar unpacks.
func TestARealRuntimeIsUnpackedAsTarDoes(t *testing.T) {
	for _, uid := range []int{0, nobody} {
		for _, name := range []string{"debian-12.0.tar.zst", "debian-root-12.1.tar.zst", "other/debian-12.0.tar.gz", "other/debian-12.0.tar.xz"} {
			if uid != 0 && strings.HasPrefix(name, "other/") {
				continue
			}
			t.Run(fmt.Sprintf("%d/%s", uid, filepath.Base(name)), func(t *testing.T) {
				w := newWorldIn(t, openDir(t, uid))
				archive, err := os.Open(runtimes(t, name))
				if err != nil {
					t.Fatal(err)
				}
				defer archive.Close()
				w.finishOK(as(w.command("install", "/dev/stdin", "--as", "demo@1", "--no-sync"), uid), archive)
				tarDir := w.path("tar")
				if err := os.Mkdir(tarDir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(tarDir, uid, uid); err != nil {
					t.Fatal(err)
				}
				if _, err := archive.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				option := map[string]string{".zst": "--zstd", ".gz": "--gzip", ".xz": "--xz"}[filepath.Ext(name)]
				w.finishOK(as(exec.Command("tar", "-x", option, "-p", "--no-same-owner", "-C", tarDir), uid), archive)

				want := tarDir
				if _, err := os.Stat(tarDir + "/metadata"); err == nil {
					want += "/files"
				}
				compare(t, members(t, w.files("demo@1")), members(t, want))
				owners(t, w.files("demo@1"), uid)
				mtree(t, w.files("demo@1"))
				w.finishOK(as(w.command("verify", "demo"), uid), nil)
			})
		}
	}
}

// finishOK runs a command that has to succeed.
func (w *world) finishOK(cmd *exec.Cmd, stdin io.Reader) result {
	w.t.Helper()
	cmd.Stdin = stdin
	r := w.finish(cmd)
	if r.status != 0 {
		w.t.Fatalf("%q: exit status %d\n%s", cmd.Args, r.status, r.stderr)
	}
	return r
}

// owners checks that everything belongs to who installed it.
func owners(t *testing.T, root string, uid int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != uid || int(st.Gid) != uid || st.Mode&0o6000 != 0 {
			t.Errorf("%q: owner %d:%d, mode %o", path, st.Uid, st.Gid, st.Mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mtree has two other programs read the manifest.
func mtree(t *testing.T, files string) {
	t.Helper()
	manifest := filepath.Join(filepath.Dir(files), "manifest.mtree.gz")
	out, err := exec.Command("sh", "-c", `zcat "$1" | mtree -p "$2"`, "sh", manifest, files).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("mtree has something to say: %v\n%.2000s", err, out)
	}
	out, err = exec.Command("bsdtar", "-tf", manifest).Output()
	if lines := strings.Count(string(out), "\n"); err != nil || lines < 1000 {
		t.Errorf("bsdtar lists %d members: %v", lines, err)
	}
}

// Both shapes of both versions install, verify and run their own programs.
func TestARealRuntimeRuns(t *testing.T) {
	for _, uid := range []int{0, nobody} {
		for _, name := range []string{"debian", "debian-root"} {
			t.Run(fmt.Sprintf("%d/%s", uid, name), func(t *testing.T) {
				w := newWorldIn(t, openDir(t, uid))
				for _, version := range []string{"12.0", "12.1"} {
					archive := w.path(name + "-" + version + ".tar.zst")
					if err := copyFile(runtimes(t, filepath.Base(archive)), archive); err != nil {
						t.Fatal(err)
					}
					w.finishOK(as(w.command("install", archive, "--no-sync"), uid), nil)
					ref := name + "@" + version
					script := `import json, os, sys; print(sys.prefix, open("/etc/berth-runtime").read().strip(), os.getuid())`
					r := w.finishOK(as(w.command("run", ref, "python3", "-c", script), uid), nil)
					if want := fmt.Sprintf("/usr %s %d\n", version, uid); r.stdout != want {
						t.Errorf("python3 printed %q, want %q", r.stdout, want)
					}
					w.finishOK(as(w.command("run", ref, "/bin/sh", "-c", "ls -l / /usr /etc >/dev/null && id && touch "+w.path("mark")), uid), nil)
					if _, err := os.Stat(w.path("mark")); err != nil {
						t.Errorf("home cannot be written to: %v", err)
					}
					w.finishOK(as(w.command("verify", ref), uid), nil)
				}
				if r := w.finish(as(w.command("remove", name+"@12.1"), uid)); r.status != 0 {
					t.Errorf("remove: %s", r.stderr)
				}
				if left, _ := os.ReadDir(filepath.Join(w.store, "trash")); len(left) > 0 {
					t.Errorf("left in the trash: %v", left)
				}
			})
		}
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
