package main

import "path/filepath"

func (b *bench) remover() contender {
	return b.withOld(contender{
		name:    "berth",
		command: func(dir string) []string { return b.berthArgs(dir, "remove", oldRef) },
		after:   func(dir string) error { return gone(deployment(dir, oldVersion)) },
	})
}

func (b *bench) removeAlone(rep *report) error {
	m, err := b.compare("remove", b.remover(), b.withOld(contender{
		name:    "rm -rf",
		command: func(dir string) []string { return []string{"rm", "-rf", deployment(dir, oldVersion)} },
		after:   func(dir string) error { return gone(deployment(dir, oldVersion)) },
	}))
	if err != nil {
		return err
	}
	rep.add(m, faster("remove a version that shares nothing", "rm -rf", 0.8, m[0], m[1]))
	return nil
}

// removeShared removes a version of which most files are another's, too.
func (b *bench) removeShared(rep *report) error {
	remove := b.remover()
	install := remove.prepare
	remove.prepare = func(dir string) error {
		if err := install(dir); err != nil {
			return err
		}
		return b.do(b.berthArgs(dir, "install", b.in.zst(newVersion), "--switch", "--no-sync")...)
	}
	copied := func(dir string) string { return filepath.Join(dir, "copy") }
	m, err := b.compare("remove-shared", remove, contender{
		name: "rm -rf of cp -al",
		prepare: func(dir string) error {
			if err := install(dir); err != nil {
				return err
			}
			return b.do("cp", "-al", deployment(dir, oldVersion), copied(dir))
		},
		command: func(dir string) []string { return []string{"rm", "-rf", copied(dir)} },
		after:   func(dir string) error { return gone(copied(dir)) },
	})
	if err != nil {
		return err
	}
	rep.add(m, faster("remove a version that shares most", "rm -rf of a copy by cp -al", 0.8, m[0], m[1]))
	return nil
}
