package main

func (b *bench) remover() contender {
	return b.withOld(contender{
		name:    "berth",
		command: func(dir string) []string { return b.berthArgs(dir, "remove", oldRef) },
		after:   func(dir string) error { return gone(deployment(dir, oldVersion)) },
	})
}

func (b *bench) rm() contender {
	return b.withOld(contender{
		name:    "rm -rf",
		command: func(dir string) []string { return []string{"rm", "-rf", deployment(dir, oldVersion)} },
		after:   func(dir string) error { return gone(deployment(dir, oldVersion)) },
	})
}

func (b *bench) removeAlone(rep *report) error {
	m, err := b.compare("remove", b.remover(), b.rm())
	if err != nil {
		return err
	}
	rep.add(m, faster("remove a version that shares nothing", "rm -rf", 0.8, m[0], m[1]))
	return nil
}

// removeShared removes a version of which most files are another's, too.
func (b *bench) removeShared(rep *report) error {
	m, err := b.compare("remove-shared", b.upgraded(b.remover()), b.upgraded(b.rm()))
	if err != nil {
		return err
	}
	rep.add(m, faster("remove a version that shares most", "rm -rf", 0.8, m[0], m[1]))
	return nil
}

// upgraded puts the newer version beside what a contender prepares.
func (b *bench) upgraded(c contender) contender {
	prepare := c.prepare
	c.prepare = func(dir string) error {
		if err := prepare(dir); err != nil {
			return err
		}
		return b.do(b.berthArgs(dir, "install", b.in.zst(newVersion), "--switch", "--no-sync")...)
	}
	return c
}
