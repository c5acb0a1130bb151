package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

const (
	flatpakName   = "org.example.Debian"
	flatpakBranch = "stable"
)

// flatpakArch is what Flatpak calls this machine's architecture.
func flatpakArch() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

func flatpakRef() string { return flatpakName + "/" + flatpakArch() + "/" + flatpakBranch }

func named(c contender, name string) contender {
	c.name = name
	return c
}

// flatpakRepositories are of the same trees: one that has the older version
// alone, and one to which the newer was added.
func (b *bench) flatpakRepositories() (older, newer string, err error) {
	metadata := filepath.Join(b.scratch, "metadata")
	ref := flatpakRef()
	keys := fmt.Sprintf("[Runtime]\nname=%s\nruntime=%s\nsdk=%s\n", flatpakName, ref, ref)
	if err := os.WriteFile(metadata, []byte(keys), 0o644); err != nil {
		return "", "", err
	}
	export := `tree=$2.tree
rm -rf "$tree"
mkdir "$tree"
tar -xf "$1" -C "$tree" files
cp ` + metadata + ` "$tree/metadata.flatpak"
flatpak build-export --runtime --files=files --metadata=metadata.flatpak --disable-fsync "$2" "$tree" ` + flatpakBranch + `
rm -rf "$tree"
`
	oldTar, err := b.in.plain(oldVersion)
	if err != nil {
		return "", "", err
	}
	newTar, err := b.in.plain(newVersion)
	if err != nil {
		return "", "", err
	}
	if older, err = b.in.derive("flatpak-"+oldVersion, export, oldTar); err != nil {
		return "", "", err
	}
	newer, err = b.in.derive("flatpak-"+newVersion, "cp -a '"+older+"' \"$2\"\n"+export, newTar)
	return older, newer, err
}

// A flatpakHome is an installation of one user, and one remote, which is a
// symlink, so that what it offers can be changed.
type flatpakHome struct{ dir string }

func (h flatpakHome) path(name string) string { return filepath.Join(h.dir, name) }

// command runs flatpak with this home.
func (h flatpakHome) command(args ...string) []string {
	return append([]string{"env", "HOME=" + h.dir, "XDG_DATA_HOME=" + h.path("data"), "XDG_CACHE_HOME=" + h.path("cache"),
		"FLATPAK_USER_DIR=" + h.path("user"), "FLATPAK_SYSTEM_DIR=" + h.path("system"),
		"FLATPAK_CONFIG_DIR=" + h.path("etc"), "flatpak"}, args...)
}

// offer makes a repository the remote's.
func (h flatpakHome) offer(repository string) error {
	next := h.path("next")
	if err := os.Symlink(repository, next); err != nil {
		return err
	}
	return os.Rename(next, h.path("remote"))
}

func (h flatpakHome) deployed(version string) error {
	active := h.path(filepath.Join("user/runtime", flatpakName, flatpakArch(), flatpakBranch, "active"))
	return unpacked(active, version)
}

// The verbs of flatpak. It syncs what it installs, so that berth has to, too.
func (h flatpakHome) install() []string {
	return h.command("install", "--user", "-y", "--noninteractive", "bench", flatpakName+"//"+flatpakBranch)
}

func (h flatpakHome) update() []string {
	return h.command("update", "--user", "-y", "--noninteractive", flatpakName+"//"+flatpakBranch)
}

func (h flatpakHome) uninstall() []string {
	return h.command("uninstall", "--user", "-y", "--noninteractive", flatpakName+"//"+flatpakBranch)
}

// flatpak is a contender with a home, which has the remote, and the older
// version if that is installed.
func (b *bench) flatpak(name, older string, installed bool, command func(h flatpakHome) []string) contender {
	return contender{
		name: name,
		prepare: func(dir string) error {
			h := flatpakHome{dir}
			for _, name := range []string{"system", "etc"} {
				if err := os.Mkdir(h.path(name), 0o755); err != nil {
					return err
				}
			}
			if err := h.offer(older); err != nil {
				return err
			}
			add := h.command("remote-add", "--user", "--no-gpg-verify", "bench", "file://"+h.path("remote"))
			if err := b.do(add...); err != nil || !installed {
				return err
			}
			return b.do(h.install()...)
		},
		command: func(dir string) []string { return command(flatpakHome{dir}) },
	}
}

func (b *bench) againstFlatpak(rep *report) error {
	older, newer, err := b.flatpakRepositories()
	if err != nil {
		return err
	}
	install := b.flatpak("flatpak install", older, false, flatpakHome.install)
	install.after = func(dir string) error { return flatpakHome{dir}.deployed(oldVersion) }

	update := b.flatpak("flatpak update", older, true, flatpakHome.update)
	prepare := update.prepare
	update.prepare = func(dir string) error {
		if err := prepare(dir); err != nil {
			return err
		}
		if err := (flatpakHome{dir}).offer(newer); err != nil {
			return err
		}
		return warm(newer)
	}
	update.after = func(dir string) error { return flatpakHome{dir}.deployed(newVersion) }

	uninstall := b.flatpak("flatpak uninstall", older, true, flatpakHome.uninstall)
	uninstall.after = func(dir string) error { return gone(flatpakHome{dir}.path("user/runtime/" + flatpakName)) }

	archive, indexed, err := b.packNew("flatpak")
	if err != nil {
		return err
	}
	defer os.Remove(archive)
	m, err := b.compare("flatpak",
		named(b.withOld(b.install(b.in.zst(newVersion), newVersion, "--switch")), "berth upgrade"), update,
		named(b.install(b.in.zst(oldVersion), oldVersion), "berth install"), install,
		named(indexed, "berth upgrade, indexed"), decompress(b.in.zst(newVersion)),
	)
	if err != nil {
		return err
	}
	removals, err := b.compare("flatpak", named(b.remover(), "berth remove"), uninstall)
	if err != nil {
		return err
	}
	rep.add(slices.Concat(m, removals),
		faster("upgrade from .tar.zst", "flatpak update from a local repository", 0.7, m[0], m[1]),
		faster("upgrade from .tar.zst", "zstd -dc alone", 0, m[0], m[5]),
		faster("upgrade from an indexed archive", "flatpak update from a local repository", 0.7, m[4], m[1]),
		faster("install .tar.zst", "flatpak install from a local repository", 0, m[2], m[3]),
		faster("remove a version that shares nothing", "flatpak uninstall", 0, removals[0], removals[1]),
	)
	return nil
}
