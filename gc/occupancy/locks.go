package occupancy

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// refFile is the name of the files whose locks count.
const refFile = ".ref"

// record is a line of proc_locks(5) or of a "lock:" in fdinfo.
type record struct {
	kind    string // "POSIX", "OFDLCK", "FLOCK", "LEASE", ...
	waiting bool   // it wants the lock and does not have it
	pid     int    // -1 for an open file description lock
	dev     device
	ino     uint64
}

// parseRecord reads
//
//	1: -> POSIX  ADVISORY  READ 1234 fd:00:2531452 0 EOF
func parseRecord(line string) (r record, ok bool) {
	fields := strings.Fields(line)
	if len(fields) > 1 && fields[1] == "->" {
		r.waiting = true
		fields = append(fields[:1], fields[2:]...)
	}
	if len(fields) < 6 {
		return r, false
	}
	r.kind = fields[1]
	cut := strings.LastIndexByte(fields[5], ':')
	if cut < 0 {
		return r, false
	}
	var err error
	if r.pid, err = strconv.Atoi(fields[4]); err != nil {
		return r, false
	}
	if r.dev, err = parseDevice(fields[5][:cut], 16); err != nil {
		return r, false
	}
	r.ino, err = strconv.ParseUint(fields[5][cut+1:], 10, 64)
	return r, err == nil
}

// counts tells whether it is a lock of fcntl(2) that somebody has. flock(2)
// and leases exclude none of those.
func (r record) counts() bool {
	return !r.waiting && (r.kind == "POSIX" || r.kind == "OFDLCK")
}

// locked tells whether the process has a lock through the descriptor. What
// cannot be read counts as one.
func (w *worker) locked(dir, fd int) bool {
	text, err := readFile(dir, "fdinfo/"+strconv.Itoa(fd), &w.file)
	if err != nil {
		return !gone(err)
	}
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte("lock:"))
		if !ok {
			continue
		}
		if r, ok := parseRecord(string(rest)); !ok || r.counts() {
			return true
		}
	}
	return false
}

// lockers finds in /proc/locks, which everybody may read, which of the
// processes that we may not look into have a process-associated lock on the
// lock file of a tree. The lock files are the trees' own, not those deeper in.
func (l *look) lockers(denied map[int]bool) (map[int][]place, error) {
	if len(denied) == 0 {
		return nil, nil
	}
	var buf []byte
	text, err := readFile(l.proc.fd(), "locks", &buf)
	if gone(err) {
		return nil, nil // the procfs is mounted with subset=pid
	}
	if err != nil {
		return nil, err
	}
	wanted := map[record][]int{}
	for line := range strings.Lines(string(text)) {
		r, ok := parseRecord(line)
		if ok && r.counts() && denied[r.pid] && l.index.on(r.dev) {
			key := record{dev: r.dev, ino: r.ino}
			wanted[key] = append(wanted[key], r.pid)
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	found := map[int][]place{}
	for i, t := range l.index.trees {
		for _, name := range []string{refFile, "files/" + refFile} {
			var st unix.Stat_t
			if unix.Fstatat(t.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			for _, pid := range wanted[record{dev: t.mnt.dev, ino: st.Ino}] {
				found[pid] = append(found[pid], place{i, name})
			}
		}
	}
	return found, nil
}
