package main

import (
	"fmt"
	"path/filepath"
	"slices"
)

// ostree installs by hand what Flatpak does: it pulls the commit of a tree from
// a local repository into one of its own, syncs it, and checks it out by hard
// links.
type ostree struct{ dir, ref string }

func (o ostree) repository() string { return filepath.Join(o.dir, "repo") }

func (o ostree) tree(version string) string { return filepath.Join(o.dir, version) }

// fetch is one command. A checkout is not synced by itself.
func (o ostree) fetch(from, version string) []string {
	const script = `ostree --repo="$0" pull-local "$1" "$2" && ostree --repo="$0" checkout -U -H "$2" "$3" && sync -f "$3"`
	return []string{"sh", "-c", script, o.repository(), from, o.ref, o.tree(version)}
}

func (o ostree) remove(version string) []string {
	const script = `rm -rf "$2" && ostree --repo="$0" refs --delete "$1" && ostree --repo="$0" prune --refs-only --depth=0`
	return []string{"sh", "-c", script, o.repository(), o.ref, o.tree(version)}
}

// ostree is a contender with a repository, and what it has fetched before.
func (b *bench) ostree(name string, command func(o ostree) []string, before ...func(o ostree) []string) contender {
	with := func(dir string) ostree { return ostree{dir, "runtime/" + flatpakRef()} }
	return contender{
		name: name,
		prepare: func(dir string) error {
			o := with(dir)
			if err := b.do("ostree", "--repo="+o.repository(), "init", "--mode=bare-user"); err != nil {
				return err
			}
			for _, step := range before {
				if err := b.do(step(o)...); err != nil {
					return err
				}
			}
			return nil
		},
		command: func(dir string) []string { return command(with(dir)) },
	}
}

func (b *bench) againstOSTree(rep *report) error {
	older, newer, err := b.flatpakRepositories()
	if err != nil {
		return err
	}
	fetchOld := func(o ostree) []string { return o.fetch(older, oldVersion) }
	fetchNew := func(o ostree) []string { return o.fetch(newer, newVersion) }
	install := b.ostree("ostree, install", fetchOld)
	install.after = func(dir string) error { return unpacked(ostree{dir: dir}.tree(oldVersion), oldVersion) }

	update := b.ostree("ostree, update", fetchNew, fetchOld)
	prepare := update.prepare
	update.prepare = func(dir string) error {
		if err := prepare(dir); err != nil {
			return err
		}
		return warm(newer)
	}
	update.after = func(dir string) error { return unpacked(ostree{dir: dir}.tree(newVersion), newVersion) }

	remove := b.ostree("ostree, remove", func(o ostree) []string { return o.remove(oldVersion) }, fetchOld)
	remove.after = func(dir string) error {
		o := ostree{dir: dir}
		if err := gone(o.tree(oldVersion)); err != nil {
			return err
		}
		left, err := filepath.Glob(filepath.Join(o.repository(), "objects/*/*"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d objects are left in the repository", len(left))
		}
		return err
	}
	m, err := b.compare("ostree",
		named(b.withOld(b.install(b.in.zst(newVersion), newVersion, "--switch")), "berth upgrade"), update,
		named(b.install(b.in.zst(oldVersion), oldVersion), "berth install"), install,
	)
	if err != nil {
		return err
	}
	removals, err := b.compare("ostree", named(b.remover(), "berth remove"), remove)
	if err != nil {
		return err
	}
	rep.add(slices.Concat(m, removals),
		faster("upgrade from .tar.zst", "ostree pull-local, checkout, sync -f", 0, m[0], m[1]),
		faster("install .tar.zst", "ostree pull-local, checkout, sync -f", 0, m[2], m[3]),
		faster("remove a version that shares nothing", "rm -rf of the checkout, ostree prune", 0, removals[0], removals[1]),
	)
	return nil
}
