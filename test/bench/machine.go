package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// programs are compared, or do what is compared, with what makes them tell
// their version.
var programs = []struct {
	name string
	args []string
}{
	{"tar", []string{"--version"}},
	{"bsdtar", []string{"--version"}},
	{"zstd", []string{"--version"}},
	{"gzip", []string{"--version"}},
	{"xz", []string{"--version"}},
	{"cp", []string{"--version"}},
	{"rm", []string{"--version"}},
	{"bwrap", []string{"--version"}},
	{"flatpak", []string{"--version"}},
	{"ostree", []string{"--version"}},
}

func needPrograms() error {
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p.name); err != nil {
			missing = append(missing, p.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("needs %s", strings.Join(missing, ", "))
	}
	return nil
}

// A fact is a line about the machine.
type fact struct{ what, value string }

func lookAtMachine(ctx context.Context, b *bench) ([]fact, error) {
	cpu, err := processor()
	if err != nil {
		return nil, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("cannot ask for the memory: %w", err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("cannot ask for the kernel: %w", err)
	}
	mount, err := fileSystem(b.scratch)
	if err != nil {
		return nil, err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	facts := []fact{
		{"processor", fmt.Sprintf("%s, %d cores, %s", cpu, runtime.NumCPU(), runtime.GOARCH)},
		{"memory", fmt.Sprintf("%.0f GiB", float64(uint64(info.Totalram)*uint64(info.Unit))/(1<<30))},
		{"kernel", unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])},
		{"file system", mount},
		{"load at the start", strings.Join(strings.Fields(string(load))[:3], " ")},
		{"runtimes", "debian " + oldVersion + " and " + newVersion + ", " + mib(b.in.size) + " each"},
		{"berth", b.revision + ", " + runtime.Version()},
	}
	for _, p := range programs {
		out, err := exec.CommandContext(ctx, p.name, p.args...).Output()
		if err != nil {
			return nil, fmt.Errorf("cannot ask %s for its version: %w", p.name, err)
		}
		facts = append(facts, fact{p.name, versionIn(string(out))})
	}
	return facts, nil
}

// versionIn is the first line that has a number.
func versionIn(output string) string {
	for line := range strings.Lines(output) {
		if strings.ContainsAny(line, "0123456789") {
			return strings.Trim(line, "* \n")
		}
	}
	return "unknown"
}

// processor is the model as /proc/cpuinfo has it. Not every architecture does.
func processor() (string, error) {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown", nil
}

// fileSystem is the type and the options of what a directory is on.
func fileSystem(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	device := strconv.Itoa(int(unix.Major(st.Dev))) + ":" + strconv.Itoa(int(unix.Minor(st.Dev)))
	found := "unknown"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if what, ok := mounted(lines.Text(), device, dir); ok {
			found = what // the last one covers those before
		}
	}
	return found, nil
}

// mounted reads a line of mountinfo, as proc(5) describes it. Where the device
// is not the one that files have (btrfs), the directory has to be below.
func mounted(line, device, dir string) (string, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, last := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 6 || len(last) < 3 {
		return "", false
	}
	if below, err := filepath.Rel(fields[4], dir); err != nil || strings.HasPrefix(below, "..") {
		return "", false
	}
	if fields[2] != device && last[0] != "btrfs" {
		return "", false
	}
	return fmt.Sprintf("%s (%s; %s)", last[0], fields[5], last[2]), true
}
