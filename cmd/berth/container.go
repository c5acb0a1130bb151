package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A container is the file system that a command sees under run: parts of the
// runtime, read-only, and parts of the host, on an empty root.
type container struct {
	files   string // where the command finds the runtime: "/usr" or "/"
	workDir string
	parts   []part
}

// A part is something at a path of the container.
type part struct {
	at     string // absolute, clean
	how    partKind
	source string // on the host, or what a symlink says
}

type partKind string

const (
	readOnly  partKind = "--ro-bind"
	readWrite partKind = "--bind"
	devices   partKind = "--dev-bind"
	symlink   partKind = "--symlink"
	plainDir  partKind = "--dir" // no source
)

// hostEtc are the files of /etc that describe the host and its network.
var hostEtc = []string{
	"group", "host.conf", "hostname", "hosts", "localtime", "machine-id",
	"passwd", "resolv.conf", "timezone",
}

// hostRoot are the directories that are the host's, whatever the runtime has.
var hostRoot = []string{"dev", "home", "proc", "root", "run", "sys", "tmp"}

// newContainer lays out the container for the runtime in files.
func newContainer(files string) (*container, error) {
	c := &container{}
	var err error
	if isDirectory(filepath.Join(files, "usr")) {
		err = c.addRoot(files)
	} else {
		err = c.addUsr(files)
	}
	if err != nil {
		return nil, err
	}
	return c, c.addHost()
}

// addUsr makes the runtime /usr. The host's top-level directories of a merged
// /usr are links into it.
func (c *container) addUsr(files string) error {
	c.files = "/usr"
	c.add("/usr", readOnly, files)
	for _, name := range []string{"bin", "lib", "lib32", "lib64", "libx32", "sbin"} {
		if isDirectory(filepath.Join(files, name)) {
			c.add("/"+name, symlink, "usr/"+name)
		}
	}
	return c.addEtc(c.inRuntime(files, "/usr/etc"), "/usr/etc")
}

// addRoot makes the runtime the root, entry by entry, so that the places of
// the host's directories can be made between them. /var is taken apart too,
// because some hosts have their homes there.
func (c *container) addRoot(files string) error {
	c.files = "/"
	entries, err := os.ReadDir(files)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case slices.Contains(hostRoot, name), name == "etc":
		case name == "var" && e.IsDir():
			if err := c.addEntries(filepath.Join(files, name), "/var"); err != nil {
				return err
			}
		default:
			if err := c.addEntry(filepath.Join(files, name), "/"+name); err != nil {
				return err
			}
		}
	}
	return c.addRootEtc(files)
}

// addRootEtc comes when the rest is there, into which the runtime's /etc can be
// a link. What is no directory of the runtime stays as it is.
func (c *container) addRootEtc(files string) error {
	etc := filepath.Join(files, "etc")
	info, err := os.Lstat(etc)
	if errors.Is(err, fs.ErrNotExist) {
		return c.addEtc("", "")
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		target, _ := os.Readlink(etc)
		if etc = c.inRuntime(files, path.Join("/", target)); target == "" || etc == "" {
			return c.addEntry(filepath.Join(files, "etc"), "/etc")
		}
	}
	const inside = "/run/berth/etc"
	c.add(inside, readOnly, etc)
	return c.addEtc(etc, inside)
}

// inRuntime finds a directory of the container on the host: "" if it is none,
// or not the runtime's.
func (c *container) inRuntime(files, dir string) (host string) {
	host, err := c.resolve(dir)
	if err != nil || !below(host, files) || !isDirectory(host) {
		return ""
	}
	return host
}

func (c *container) addEntries(dir, at string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.addEntry(filepath.Join(dir, e.Name()), path.Join(at, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// addEntry adds a file or directory of the runtime, or a symlink of it as it
// is.
func (c *container) addEntry(source, at string) error {
	info, err := os.Lstat(source)
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(source)
		if err != nil {
			return err
		}
		c.add(at, symlink, target)
		return nil
	}
	c.add(at, readOnly, source)
	return nil
}

// addEtc fills /etc with links to the runtime's, and the files that describe
// the host. inside is where the container has the runtime's /etc, which is etc
// on the host, or "".
func (c *container) addEtc(etc, inside string) error {
	entries, err := os.ReadDir(etc)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range hostEtc {
		if _, err := os.Stat("/etc/" + name); err == nil {
			c.add("/etc/"+name, readOnly, "/etc/"+name)
		}
	}
	for _, e := range entries {
		at := "/etc/" + e.Name()
		switch {
		case c.has(at):
		case e.Type() == fs.ModeSymlink:
			if err := c.addEntry(filepath.Join(etc, e.Name()), at); err != nil {
				return err
			}
		default:
			c.add(at, symlink, inside+"/"+e.Name())
		}
	}
	return nil
}

// addHost adds what is the host's: devices, processes, home, temporary files,
// the session's sockets and the working directory.
func (c *container) addHost() error {
	c.add("/dev", devices, "/dev")
	c.add("/proc", readWrite, "/proc")
	c.add("/sys", readOnly, "/sys") // where Mesa finds the graphics cards
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	c.workDir = cwd
	for _, dir := range []string{"/tmp", os.Getenv("HOME"), fmt.Sprintf("/run/user/%d", os.Getuid()), cwd} {
		if dir = path.Clean(dir); path.IsAbs(dir) && dir != "/" && isDirectory(dir) && !c.covers(dir) {
			c.add(dir, readWrite, dir)
		}
	}
	if !c.reaches(cwd) {
		c.workDir = "/"
	}
	return nil
}

// reaches tells whether a directory of the host is the same, or one of the
// runtime's, inside.
func (c *container) reaches(dir string) bool {
	host, err := c.resolve(dir)
	return c.above(dir) || err == nil && isDirectory(host)
}

// add adds a part, and the directories above it that are no part of another:
// those that bwrap makes of itself are closed to other accounts.
func (c *container) add(at string, how partKind, source string) {
	if up := path.Dir(at); up != "/" && !c.covers(up) {
		c.add(up, plainDir, "")
	}
	c.parts = append(c.parts, part{at, how, source})
}

func (c *container) has(at string) bool {
	return slices.ContainsFunc(c.parts, func(p part) bool { return p.at == at })
}

// covers tells whether a part has the path already, be it the host's or the
// runtime's.
func (c *container) covers(dir string) bool {
	return slices.ContainsFunc(c.parts, func(p part) bool {
		return p.at == dir || p.how != plainDir && below(dir, p.at)
	})
}

// arguments are those of bwrap(1).
func (c *container) arguments() []string {
	var args []string
	for _, p := range c.parts {
		if p.how == plainDir {
			args = append(args, string(p.how), p.at)
		} else {
			args = append(args, string(p.how), p.source, p.at)
		}
	}
	return append(args, "--remount-ro", "/", "--chdir", c.workDir)
}

// searchPath is PATH for the command: the runtime's own directories, then
// what the caller has beside them, in his home for instance.
func searchPath(callers string) string {
	dirs := []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	for _, dir := range filepath.SplitList(callers) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

// lookPath tells whether bwrap will find the command, which it reports with a
// status of its own if not. The error is exec.ErrNotFound, fs.ErrNotExist or
// fs.ErrPermission.
func (c *container) lookPath(command, searchPath string) error {
	if command == "" {
		return exec.ErrNotFound // and not the directories of the search path
	}
	if strings.Contains(command, "/") {
		if !path.IsAbs(command) {
			command = path.Join(c.workDir, command)
		}
		return c.executable(command, 0)
	}
	err := error(exec.ErrNotFound)
	for _, dir := range filepath.SplitList(searchPath) {
		if !path.IsAbs(dir) {
			dir = path.Join(c.workDir, dir)
		}
		switch found := c.executable(path.Join(dir, command), 0); {
		case found == nil:
			return nil
		case !errors.Is(found, exec.ErrNotFound):
			err = found
		}
	}
	return err
}

// executable looks at the interpreter of a script as well. depth counts those
// on the way to it.
func (c *container) executable(inside string, depth int) error {
	const deepest = 5 // as the kernel
	host, err := c.resolve(inside)
	if err != nil {
		return exec.ErrNotFound
	}
	info, err := os.Stat(host)
	switch {
	case err != nil:
		return exec.ErrNotFound
	case info.IsDir() || unix.Faccessat(unix.AT_FDCWD, host, unix.X_OK, unix.AT_EACCESS) != nil:
		return fs.ErrPermission
	}
	interpreter := interpreterOf(host)
	if interpreter == "" {
		return nil
	}
	if depth == deepest {
		return unix.ELOOP
	}
	at := interpreter
	if !path.IsAbs(at) {
		at = path.Join(c.workDir, at)
	}
	err = c.executable(at, depth+1)
	if errors.Is(err, exec.ErrNotFound) {
		err = fs.ErrNotExist // no search path was asked
	}
	if err != nil {
		return fmt.Errorf("its interpreter %q: %w", interpreter, err)
	}
	return nil
}

// interpreterOf reads what a script begins with: "" of what is none.
func interpreterOf(host string) string {
	info, err := os.Stat(host)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(host)
	if err != nil {
		return "" // executable, not readable
	}
	defer f.Close()
	begin := make([]byte, 256) // what the kernel reads
	n, _ := io.ReadFull(f, begin)
	line, script := strings.CutPrefix(string(begin[:n]), "#!")
	if !script {
		return ""
	}
	line, _, _ = strings.Cut(line, "\n")
	name, _, _ := strings.Cut(strings.TrimLeft(strings.ReplaceAll(line, "\t", " "), " "), " ")
	return name
}

// resolve finds the path on the host of a path of the container, following
// symlinks as they lead inside.
func (c *container) resolve(inside string) (host string, err error) {
	const mostLinks = 40 // as the kernel
	done, left := "/", strings.Split(strings.Trim(path.Clean(inside), "/"), "/")
	for links := 0; len(left) > 0; {
		next := path.Join(done, left[0])
		left = left[1:]
		target, isLink, err := c.readlink(next)
		if err != nil {
			return "", err
		}
		if !isLink {
			done = next
			continue
		}
		if links++; links > mostLinks {
			return "", fmt.Errorf("%s: too many symlinks", inside)
		}
		if path.IsAbs(target) {
			done = "/"
		}
		left = append(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), left...)
	}
	return c.host(done)
}

// readlink reads a symlink of the container.
func (c *container) readlink(inside string) (target string, isLink bool, err error) {
	for _, p := range c.parts {
		if p.how == symlink && p.at == inside {
			return p.source, true, nil
		}
	}
	host, err := c.host(inside)
	if err != nil {
		if c.above(inside) {
			return "", false, nil
		}
		return "", false, err
	}
	target, err = os.Readlink(host)
	if errors.Is(err, unix.EINVAL) { // readlink(2): it is there, and no symlink
		return "", false, nil
	}
	return target, err == nil, err
}

// host translates a path of the container that has no symlinks.
func (c *container) host(inside string) (string, error) {
	best := part{}
	for _, p := range c.parts {
		if p.how != symlink && p.how != plainDir && len(p.at) > len(best.at) && (inside == p.at || below(inside, p.at)) {
			best = p
		}
	}
	if best.at == "" {
		return "", fmt.Errorf("%s: %w", inside, fs.ErrNotExist)
	}
	return best.source + strings.TrimPrefix(inside, best.at), nil
}

// above tells whether a path is a directory that holds parts.
func (c *container) above(inside string) bool {
	return inside == "/" || slices.ContainsFunc(c.parts, func(p part) bool { return below(p.at, inside) })
}

// below tells whether a clean path is below a directory other than the root.
func below(name, dir string) bool {
	return len(name) > len(dir) && name[len(dir)] == '/' && strings.HasPrefix(name, dir)
}

func isDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
