package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// install installs an archive into the store of the round.
func (b *bench) install(archive, version string, flags ...string) contender {
	return contender{
		name:  "berth",
		reads: []string{archive},
		command: func(dir string) []string {
			return b.berthArgs(dir, append([]string{"install", archive}, flags...)...)
		},
		after: func(dir string) error { return unpacked(deployment(dir, version), version) },
	}
}

// unpack has another program unpack an archive into the round's directory,
// which is the last argument.
func (b *bench) unpack(name, archive, version string, args ...string) contender {
	return contender{
		name:    name,
		reads:   []string{archive},
		command: func(dir string) []string { return append(args, archive, "-C", dir) },
		after:   func(dir string) error { return unpacked(dir, version) },
	}
}

// decompress is the least that an archive takes of which all has to be read.
func decompress(archive string) contender {
	return contender{
		name:    "zstd -dc",
		reads:   []string{archive},
		command: func(string) []string { return []string{"zstd", "-dc", archive} },
	}
}

func deployment(dir, version string) string {
	return filepath.Join(dir, "store/runtimes/debian", version)
}

// unpacked tells whether a tree is there, by what the runtimes have to tell
// their versions apart.
func unpacked(dir, version string) error {
	got, err := os.ReadFile(filepath.Join(dir, "files/etc/berth-runtime"))
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(got)) != version {
		return fmt.Errorf("%s has version %q, not %s", dir, got, version)
	}
	return nil
}

func (b *bench) installZst(rep *report) error {
	archive := b.in.zst(oldVersion)
	plain, err := b.in.plain(oldVersion)
	if err != nil {
		return err
	}
	m, err := b.compare("zst",
		b.install(archive, oldVersion, "--no-sync"),
		b.unpack("tar --zstd", archive, oldVersion, "tar", "--zstd", "-xf"),
		b.unpack("bsdtar", archive, oldVersion, "bsdtar", "-xf"),
		decompress(archive),
		b.unpack("tar, not compressed", plain, oldVersion, "tar", "-xf"),
	)
	if err != nil {
		return err
	}
	const work = "install .tar.zst --no-sync"
	rep.add(m,
		faster(work, "tar --zstd -xf", 0.85, m[0], m[1]),
		faster(work, "bsdtar -xf", 0.75, m[0], m[2]),
		faster(work, "the slower of zstd -dc and tar -xf of the plain .tar", 1.3, m[0], m[3], m[4]),
		lean(work, m[0]),
	)
	return nil
}

func (b *bench) installGz(rep *report) error {
	archive, err := b.in.gz(oldVersion)
	if err != nil {
		return err
	}
	m, err := b.compare("gz",
		b.install(archive, oldVersion, "--no-sync"),
		b.unpack("tar -z", archive, oldVersion, "tar", "-xzf"),
		b.unpack("bsdtar", archive, oldVersion, "bsdtar", "-xf"),
	)
	if err != nil {
		return err
	}
	const work = "install .tar.gz --no-sync"
	rep.add(m,
		faster(work, "tar -xzf", 0.85, m[0], m[1]),
		faster(work, "bsdtar -xf", 1.3, m[0], m[2]),
		lean(work, m[0]),
	)
	return nil
}

func (b *bench) installXz(rep *report) error {
	archive, err := b.in.xz(oldVersion)
	if err != nil {
		return err
	}
	m, err := b.compare("xz",
		b.install(archive, oldVersion, "--no-sync"),
		b.unpack("tar -J", archive, oldVersion, "tar", "-xJf"),
	)
	if err != nil {
		return err
	}
	const work = "install .tar.xz --no-sync"
	rep.add(m, faster(work, "tar -xJf", 1, m[0], m[1]), lean(work, m[0]))
	return nil
}

func (b *bench) installDurable(rep *report) error {
	archive := b.in.zst(oldVersion)
	synced := b.unpack("tar --zstd, sync", archive, oldVersion)
	synced.command = func(dir string) []string {
		return []string{"sh", "-c", `tar --zstd -xf "$0" -C "$1" && sync -f "$1"`, archive, dir}
	}
	m, err := b.compare("durable", b.install(archive, oldVersion), synced)
	if err != nil {
		return err
	}
	const work = "install .tar.zst"
	rep.add(m, faster(work, "tar --zstd -xf && sync -f", 0.9, m[0], m[1]), lean(work, m[0]))
	return nil
}
