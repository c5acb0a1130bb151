package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// inputs are the two runtimes, and what is derived from them once and kept:
// compressing takes far longer than measuring.
type inputs struct {
	runtimes string // the directory that has them
	dir      string // has what is derived
	size     int64  // of one runtime, unpacked, about
	ctx      context.Context
}

// openInputs finds the runtimes. What is derived is kept under a name that
// depends on their digests.
func openInputs(ctx context.Context, runtimes, work string) (in inputs, err error) {
	in.ctx = ctx
	if in.runtimes, err = filepath.Abs(runtimes); err != nil {
		return in, err
	}
	sums, err := os.ReadFile(filepath.Join(in.runtimes, "SHA256SUMS"))
	if errors.Is(err, fs.ErrNotExist) {
		return in, fmt.Errorf("no runtimes in %s: make them with test/runtime/build.sh --full %s", runtimes, runtimes)
	} else if err != nil {
		return in, err
	}
	if in.dir, err = filepath.Abs(filepath.Join(work, fmt.Sprintf("%.6x", sha256.Sum256(sums)))); err != nil {
		return in, err
	}
	if err := os.MkdirAll(in.dir, 0o755); err != nil {
		return in, err
	}
	plain, err := in.plain(newVersion)
	if err != nil {
		return in, err
	}
	info, err := os.Stat(plain)
	if err != nil {
		return in, err
	}
	in.size = info.Size()
	return in, nil
}

// zst is the archive as it was made.
func (in inputs) zst(version string) string {
	return filepath.Join(in.runtimes, "debian-"+version+".tar.zst")
}

func (in inputs) plain(version string) (string, error) {
	return in.derive("debian-"+version+".tar", `zstd -dc "$1" >"$2"`, in.zst(version))
}

func (in inputs) gz(version string) (string, error) {
	return in.compress(version, "gz", `gzip -c "$1" >"$2"`)
}

func (in inputs) xz(version string) (string, error) {
	return in.compress(version, "xz", `xz -T0 -6 -c "$1" >"$2"`)
}

func (in inputs) compress(version, suffix, script string) (string, error) {
	plain, err := in.plain(version)
	if err != nil {
		return "", err
	}
	return in.derive("debian-"+version+".tar."+suffix, script, plain)
}

// derive makes a file or directory, by a script that finds the source as $1 and
// the new one as $2, unless it was made before.
func (in inputs) derive(name, script, source string) (string, error) {
	path := filepath.Join(in.dir, name)
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "bench: making %s, once\n", name)
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(in.ctx, "/bin/sh", "-euc", script, "sh", source, part)
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(part)
		return "", fmt.Errorf("cannot make %s: %w: %s", name, err, out)
	}
	return path, os.Rename(part, path)
}
