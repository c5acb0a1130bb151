package occupancy

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A rootDir is what some process has for "/", and the mounts that are below it.
type rootDir struct {
	fd     int // or one of these
	mounts *namespace
}

const (
	here    = unix.AT_FDCWD // our own
	nowhere = -1            // may not be opened
)

// openRoot opens the root directory of a process if there is an overlay in its
// namespace. The caller closes it. Without it, its layers are looked for by
// their names alone.
func (n *namespace) openRoot(process int) (r rootDir) {
	r = rootDir{nowhere, n}
	if !slices.ContainsFunc(n.mounts, func(m *mount) bool { return m.fstype == "overlay" }) {
		return r
	}
	if fd, err := unix.Openat(process, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		r.fd = fd
	}
	return r
}

func (r rootDir) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
}

// layer finds the trees that a directory of an overlay may be in. It is spelled
// as whoever mounted it did: perhaps through symlinks, which may lead elsewhere
// by now, relative to a directory that nobody knows, or from a root that is
// gone, as bubblewrap does.
func (x *index) layer(text string, roots ...rootDir) (found []place) {
	for _, r := range roots {
		if strings.HasPrefix(text, "/") {
			found = append(found, x.under(r.mounts, text)...)
			found = append(found, x.resolve(r, text)...)
		}
	}
	return append(found, x.named(text)...)
}

func (x *index) under(n *namespace, path string) []place {
	over := n.over(path)
	if len(over) == 0 {
		return nil
	}
	inner, _ := over[0].inside(path)
	return x.find(over[0].dev, inner)
}

// resolve follows the symlinks in a path, if it is on no file system whose
// server may not answer.
func (x *index) resolve(r rootDir, path string) []place {
	over := r.mounts.over(path)
	if r.fd == nowhere || len(over) == 0 || slow(over[0]) {
		return nil
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if r.fd != here {
		how.Resolve |= unix.RESOLVE_IN_ROOT
	}
	fd, err := unix.Openat2(r.fd, path, &how)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|statxFlags, statxMask, &st) != nil {
		return nil
	}
	link, err := x.proc.selfLink(fd, make([]byte, linkSize))
	if err != nil {
		return nil
	}
	for _, m := range r.mounts.mounts {
		if m.id == st.Mnt_id {
			inner, _ := m.inside(link)
			return x.find(m.dev, inner)
		}
	}
	return nil
}

// named finds the trees of which a name is in the path, or the end of one at
// the beginning of a relative path.
func (x *index) named(path string) (found []place) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	for i, t := range x.trees {
		for _, name := range t.names {
			want := strings.Split(name, "/")
			for at := range parts {
				if at+len(want) <= len(parts) && slices.Equal(parts[at:at+len(want)], want) {
					found = append(found, place{i, relative(strings.Join(parts[at+len(want):], "/"))})
				}
			}
			last := want[len(want)-1:]
			if !strings.HasPrefix(path, "/") && len(parts) > 0 && parts[0] == last[0] {
				found = append(found, place{i, relative(strings.Join(parts[1:], "/"))})
			}
		}
	}
	return found
}

// layers lists the directories that an overlay is made of, as whoever mounted
// it spelled them.
func layers(options string) (dirs []string) {
	for _, option := range split(options, ',') {
		name, value, _ := strings.Cut(option, "=")
		switch strings.TrimSuffix(name, "+") {
		case "lowerdir", "upperdir", "datadir":
		default:
			continue
		}
		for _, dir := range split(value, ':') {
			if dir = plain(dir); dir != "" {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// split cuts at the separator where no backslash is before it.
func split(text string, sep byte) (parts []string) {
	start := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

func plain(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
