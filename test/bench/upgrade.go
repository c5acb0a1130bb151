package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// withOld has the older version installed before what is measured.
func (b *bench) withOld(c contender) contender {
	c.prepare = func(dir string) error {
		return b.do(b.berthArgs(dir, "install", b.in.zst(oldVersion), "--no-sync")...)
	}
	return c
}

func (b *bench) upgradePlain(rep *report) error {
	archive := b.in.zst(newVersion)
	upgrade := b.withOld(b.install(archive, newVersion, "--switch", "--no-sync"))
	disk := row{work: "disk space that the upgrade adds", against: "changed files, directories, manifest",
		format: mebibytes, target: 1.05}
	installed, looked := upgrade.prepare, upgrade.after
	upgrade.prepare = func(dir string) (err error) {
		if err := installed(dir); err != nil {
			return err
		}
		disk.own, err = occupied(filepath.Join(dir, "store"))
		return err
	}
	upgrade.after = func(dir string) error {
		if err := looked(dir); err != nil {
			return err
		}
		after, err := occupied(filepath.Join(dir, "store"))
		if err != nil {
			return err
		}
		disk.own = after - disk.own
		disk.other, err = b.leastSpace(deployment(dir, newVersion))
		return err
	}
	m, err := b.compare("upgrade", upgrade, b.unpack("tar --zstd", archive, newVersion, "tar", "--zstd", "-xf"))
	if err != nil {
		return err
	}
	const work = "upgrade from .tar.zst --no-sync"
	rep.add(m, faster(work, "tar --zstd -xf of the new version", 0.6, m[0], m[1]), disk, lean(work, m[0]))
	return nil
}

// packNew makes an indexed archive of the newer version, for the caller to
// remove, and an upgrade from it.
func (b *bench) packNew(group string, flags ...string) (archive string, upgrade contender, err error) {
	out := filepath.Join(b.scratch, "packed")
	archive = filepath.Join(b.scratch, "debian-"+newVersion+".indexed.tar.zst")
	b.say("%s: packing the archive", group)
	args := b.berthArgs(b.scratch, "--json", "pack", b.in.zst(newVersion), "-o", archive)
	if _, err := ask(b.ctx, b.env, request{Commands: [][]string{args}, Times: 1, Stdout: out}); err != nil {
		return "", upgrade, fmt.Errorf("%s: cannot pack: %w", group, err)
	}
	var packed struct {
		Digest string `json:"toc_sha256"`
	}
	if err := readJSON(out, &packed); err != nil {
		return "", upgrade, err
	}
	flags = append([]string{"--as", newRef, "--toc-sha256", packed.Digest, "--switch"}, flags...)
	return archive, b.withOld(b.install(archive, newVersion, flags...)), nil
}

func (b *bench) upgradeIndexed(rep *report) error {
	archive, upgrade, err := b.packNew("indexed", "--no-sync", "--json")
	if err != nil {
		return err
	}
	defer os.Remove(archive)
	read := row{work: "bytes read from the indexed archive", against: "compressed bytes of changed files",
		format: mebibytes, target: 1.2}
	if read.other, err = b.leastRead(archive); err != nil {
		return err
	}
	upgrade.capture = true
	looked := upgrade.after
	upgrade.after = func(dir string) error {
		if err := looked(dir); err != nil {
			return err
		}
		read.own, err = bytesRead(filepath.Join(dir, "stdout"))
		return err
	}
	copied := func(version string) func(string) error {
		return func(dir string) error { return unpacked(filepath.Join(dir, "copy"), version) }
	}
	// What an upgrade takes at least, by hand and knowing what has changed.
	changes := filepath.Join(b.scratch, "changed.tar.zst")
	if err := b.writeChanged(changes); err != nil {
		return err
	}
	defer os.Remove(changes)
	m, err := b.compare("indexed", upgrade, b.withOld(contender{
		name: "cp -al",
		command: func(dir string) []string {
			return []string{"cp", "-al", deployment(dir, oldVersion), filepath.Join(dir, "copy")}
		},
		after: copied(oldVersion),
	}), b.withOld(contender{
		name: "cp -al, tar",
		command: func(dir string) []string {
			return []string{"sh", "-c", `cp -al "$0" "$1" && tar --zstd -xf "$2" -C "$1"`,
				deployment(dir, oldVersion), filepath.Join(dir, "copy"), changes}
		},
		after: copied(newVersion),
	}))
	if err != nil {
		return err
	}
	const work = "upgrade from an indexed archive --no-sync"
	rep.add(m, faster(work, "cp -al of the old version", 1.5, m[0], m[1]),
		faster(work, "cp -al, and tar --zstd -xf of only what has changed", 0, m[0], m[2]), read, lean(work, m[0]))
	return nil
}

// bytesRead is what an installation says that it read of its archive.
func bytesRead(output string) (float64, error) {
	var result struct {
		Installed []struct {
			Read *float64 `json:"read_bytes"`
		}
	}
	if err := readJSON(output, &result); err != nil {
		return 0, err
	}
	if len(result.Installed) != 1 || result.Installed[0].Read == nil {
		return 0, fmt.Errorf("berth did not report how much it read")
	}
	return *result.Installed[0].Read, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("cannot read what berth printed: %w", err)
	}
	return nil
}

func (b *bench) changedFiles() (map[string]int64, error) {
	older, err := b.in.plain(oldVersion)
	if err != nil {
		return nil, err
	}
	newer, err := b.in.plain(newVersion)
	if err != nil {
		return nil, err
	}
	return changedFiles(older, newer)
}

// leastRead is how many bytes of an indexed archive the changed files take.
func (b *bench) leastRead(archive string) (float64, error) {
	files, err := b.changedFiles()
	if err != nil {
		return 0, err
	}
	f, err := os.Open(archive)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	sizes, err := storedSizes(f, info.Size())
	if err != nil {
		return 0, err
	}
	var sum int64
	for name := range files {
		size, ok := sizes[name]
		if !ok {
			return 0, fmt.Errorf("%q is not in the table of contents", name)
		}
		sum += size
	}
	return float64(sum), nil
}

// leastSpace is what the changed files of a deployment, its directories and its
// manifest occupy.
func (b *bench) leastSpace(dep string) (float64, error) {
	files, err := b.changedFiles()
	if err != nil {
		return 0, err
	}
	var sum int64
	for name := range files {
		blocks, _, err := allocated(filepath.Join(dep, name))
		if err != nil {
			return 0, err
		}
		sum += blocks
	}
	manifest, _, err := allocated(filepath.Join(dep, "manifest.mtree.gz"))
	if err != nil {
		return 0, err
	}
	sum += manifest
	err = filepath.WalkDir(dep, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		blocks, _, err := allocated(path)
		sum += blocks
		return err
	})
	return float64(sum), err
}

// occupied is what the file system has allocated for a tree, each file counted
// once.
func occupied(dir string) (float64, error) {
	var sum int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		blocks, inode, err := allocated(path)
		if err == nil && !seen[inode] {
			seen[inode] = true
			sum += blocks
		}
		return err
	})
	return float64(sum), err
}

// allocated is in bytes.
func allocated(path string) (bytes int64, inode uint64, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("%s: no stat(2)", path)
	}
	return st.Blocks * 512, st.Ino, nil
}
