package store

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Doubt says what of the things that a Looker could not see keeps a tree that
// nobody was seen to use: "" if nothing does. Processes of accounts that cannot
// enter the store need not be seen.
func (s *Store) Doubt(blind []Blind) (string, error) {
	if s.opt.RequireCompleteEvidence == nil || len(blind) == 0 {
		return "", nil
	}
	required, err := s.opt.RequireCompleteEvidence()
	if err != nil || !required {
		return "", err
	}
	for _, b := range blind {
		others := b.Kind == BlindAccounts || b.Kind == BlindHidepid
		if others && !s.OpenToOthers() {
			continue
		}
		return b.Text + " cannot be seen", nil
	}
	return "", nil
}

// OpenToOthers tells whether accounts other than the caller's can enter the
// store: whether every directory on its path lets them through. Root always
// can, and is not meant. Where it cannot be known the answer is true.
func (s *Store) OpenToOthers() bool {
	path, err := filepath.EvalSymlinks(s.Path())
	if err != nil {
		return true
	}
	for {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return true
		}
		// The caller's own group is taken for one that he is alone in, as
		// distributions set it up. With ACLs the group bits are their mask.
		group := st.Mode&0o010 != 0 && st.Gid != uint32(os.Getegid())
		if st.Uid == uint32(os.Geteuid()) && st.Mode&0o001 == 0 && !group {
			return false
		}
		if path == filepath.Dir(path) {
			return true
		}
		path = filepath.Dir(path)
	}
}
