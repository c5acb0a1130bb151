package occupancy

import (
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is what people want to know of one.
type process struct {
	known   bool // uid is
	uid     uint32
	command string
	since   time.Time
}

// describe reads it. What cannot be read stays empty.
func (w *worker) describe(dir int) (p process, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return p, err
	}
	p.known, p.uid = true, st.Uid
	if text, err := readFile(dir, "comm", &w.file); err == nil {
		p.command = strings.TrimSuffix(string(text), "\n")
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return p, err
	}
	if s, err := w.status(dir); err == nil {
		p.since = time.Now().Add(s.since - time.Duration(up.Nano())).Round(clockTick)
	}
	return p, nil
}

// accounts are the names of users.
type accounts map[uint32]string

func (a accounts) name(uid uint32) string {
	name, ok := a[uid]
	if !ok {
		name = strconv.FormatUint(uint64(uid), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		a[uid] = name
	}
	return name
}
