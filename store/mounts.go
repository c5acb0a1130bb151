package store

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkNoMounts refuses a tree in which we see something mounted: it is not
// ours to take away, and a deletion would stop there half way.
func (d dir) checkNoMounts() error {
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(d.Fd())))
	if err != nil {
		return err
	}
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		// proc_pid_mountinfo(5): the fifth field is the mount point.
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape(fields[4]); strings.HasPrefix(point, at+"/") {
			return fmt.Errorf("something is mounted on %s: %w", strconv.Quote(point), unix.EBUSY)
		}
	}
	return nil
}

// unescape undoes what the kernel does to spaces and their like: \040.
func unescape(s string) string {
	if !strings.ContainsRune(s, '\\') {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
