package occupancy

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/store"
)

// The inodes of the first namespaces of the machine (PROC_PID_INIT_INO and
// PROC_USER_INIT_INO of the kernel).
const (
	firstPIDs  = "pid:[4026531836]"
	firstUsers = "user:[4026531837]"
)

// blind lists what could not be seen.
func (l *look) blind(denied map[int]bool, lost int) (found []store.Blind, err error) {
	note := func(kind store.BlindKind, format string, args ...any) {
		found = append(found, store.Blind{Kind: kind, Text: fmt.Sprintf(format, args...)})
	}
	// A caller may know that others cannot get at the trees, but not that of
	// his own: a process is closed to its account if it changed its rights, or
	// runs a program that the account may not read (PR_SET_DUMPABLE(2const)).
	own := 0
	for pid := range denied {
		if l.seen[pid].who.known && l.seen[pid].who.uid == uint32(unix.Geteuid()) {
			own++
		}
	}
	if others := len(denied) - own; others > 0 {
		note(store.BlindAccounts, "%s of other accounts", count(others, "process", "processes"))
	}
	if own > 0 {
		note(store.BlindOwn, "%s of our account that may not be read", count(own, "process", "processes"))
	}
	option, err := l.hidden()
	if err != nil {
		return nil, err
	}
	if option != "" {
		note(store.BlindHidepid, "processes of other accounts (/proc is mounted with %s)", option)
	}
	buf := make([]byte, 64)
	if name, err := readlink(l.proc.fd(), "self/ns/pid", buf); err != nil {
		return nil, err
	} else if name != firstPIDs {
		note(store.BlindPIDs, "processes outside of our PID namespace")
	}
	told := map[*mount]bool{}
	for _, t := range l.index.trees {
		if told[t.mnt] {
			continue
		}
		told[t.mnt] = true
		switch {
		case t.mnt.fstype == "overlay":
			note(store.BlindOverlay, "locks taken below the overlayfs on %s", strconv.Quote(t.mnt.point))
		case remote(t.mnt.fstype):
			note(store.BlindRemote, "other machines that use the %s on %s", t.mnt.fstype, strconv.Quote(t.mnt.point))
		}
	}
	if lost > 0 {
		note(store.BlindMounts, "%s on mounts that no process shows", count(lost, "open or mapped file", "open or mapped files"))
	}
	if n := l.spaces.partial(); n > 0 {
		note(store.BlindMounts, "%s of which only a part is visible", count(n, "mount namespace", "mount namespaces"))
	}
	return found, nil
}

// partial counts the namespaces of which not all mounts are known.
func (s *spaces) partial() (n int) {
	for _, space := range s.byName {
		if !space.whole {
			n++
		}
	}
	return n
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// hidden tells by which option the procfs hides processes from us, if it does.
func (l *look) hidden() (option string, err error) {
	var st unix.Statx_t
	if err := unix.Statx(l.proc.fd(), "", unix.AT_EMPTY_PATH|statxFlags, statxMask, &st); err != nil {
		return "", err
	}
	m := l.spaces.mount(st.Mnt_id)
	if m == nil {
		return "", nil
	}
	for _, o := range strings.Split(m.super, ",") {
		switch o {
		case "hidepid=1", "hidepid=2", "hidepid=4", "hidepid=noaccess", "hidepid=invisible", "hidepid=ptraceable", "subset=pid":
			option = o
		}
	}
	if option == "" {
		return "", nil
	}
	all, err := l.seesAll()
	if err != nil || all {
		return "", err
	}
	return option, nil
}

// seesAll tells whether we may look into every process: with CAP_SYS_PTRACE
// in the user namespace above all others.
func (l *look) seesAll() (bool, error) {
	name, err := readlink(l.proc.fd(), "self/ns/user", make([]byte, 64))
	if err != nil || name != firstUsers {
		return false, err
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false, err
	}
	return data[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0, nil
}
