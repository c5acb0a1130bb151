package check

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"
)

// A member is a line of a manifest: its keywords.
type member map[string]string

// readManifest unpacks a manifest, by path relative to files: "." is the root.
func readManifest(path string) (map[string]member, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	members := make(map[string]member)
	lines := bufio.NewScanner(plain)
	lines.Buffer(nil, 1<<20)
	for first := true; lines.Scan(); first = false {
		if first {
			if lines.Text() != "#mtree" {
				return nil, fmt.Errorf("begins with %q", lines.Text())
			}
			continue
		}
		name, rest, _ := strings.Cut(lines.Text(), " ")
		name, err := unescape(name)
		if err != nil {
			return nil, err
		}
		m := make(member)
		for word := range strings.FieldsSeq(rest) {
			key, value, _ := strings.Cut(word, "=")
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("%q: %s twice", name, key)
			}
			if m[key], err = unescape(value); err != nil {
				return nil, err
			}
		}
		name = filepath.Clean(name)
		if members[name] != nil {
			return nil, fmt.Errorf("%q twice", name)
		}
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		members[name] = m
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if members["."] == nil {
		return nil, errors.New("no root")
	}
	return members, nil
}

// check looks that the line says everything that its type has: what it leaves
// out is not compared.
func (m member) check() error {
	keys, known := map[string][]string{
		"dir":  {"mode", "time"},
		"link": {"link"},
		"file": {"mode", "size", "time", "sha256digest"},
	}[m["type"]]
	if !known {
		return fmt.Errorf("has the type %q", m["type"])
	}
	for _, key := range keys {
		if m[key] == "" {
			return fmt.Errorf("has no %s", key)
		}
	}
	if mode, err := strconv.ParseUint(m["mode"], 8, 12); m["mode"] != "" && (err != nil || mode&0o6000 != 0) {
		return fmt.Errorf("has the mode %s", m["mode"])
	}
	return nil
}

// unescape resolves the octal escapes of vis(3).
func unescape(s string) (string, error) {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		if i+4 > len(s) {
			return "", fmt.Errorf("a cut escape in %q", s)
		}
		n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("%q: %w", s, err)
		}
		out, i = append(out, byte(n)), i+3
	}
	return string(out), nil
}

// A record is deployment.toml.
type record struct {
	Name, Version, Origin, Digest, TOC string
	Installed                          time.Time
	Size                               int64
	Links                              [][]string // groups of paths that are one file
}

func readRecord(path string) (r record, err error) {
	about, err := toml.DecodeFile(path, &r)
	if err == nil && len(about.Undecoded()) > 0 {
		err = fmt.Errorf("has %q", about.Undecoded())
	}
	for _, group := range r.Links {
		for i := range group {
			if err == nil {
				group[i], err = unescape(group[i])
			}
		}
	}
	return r, err
}

// A tree is what is on disk, beside what is expected.
type tree struct {
	root     string
	expected map[string]member
	inodes   map[string]uint64 // of regular files
	sizes    map[uint64]int64  // by inode
	lone     map[string]uint64 // of those that no other version may share: the links they have
}

func links(st fs.FileInfo) uint64 { return uint64(st.Sys().(*syscall.Stat_t).Nlink) }

func (t *tree) compare() (problems []string) {
	t.inodes, t.lone, t.sizes = make(map[string]uint64), make(map[string]uint64), make(map[uint64]int64)
	missing := maps.Clone(t.expected)
	err := filepath.WalkDir(t.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.root, path)
		if err != nil {
			return err
		}
		delete(missing, rel)
		want := t.expected[rel]
		if want == nil {
			problems = append(problems, fmt.Sprintf("extra %q", rel))
			return nil
		}
		got, err := t.look(path, rel)
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if err == nil && got[key] != want[key] {
				problems = append(problems, fmt.Sprintf("changed %q: %s is %q, not %q", rel, key, got[key], want[key]))
			}
		}
		return err
	})
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, rel := range slices.Sorted(maps.Keys(missing)) {
		problems = append(problems, fmt.Sprintf("missing %q", rel))
	}
	return problems
}

// look describes what is on disk in the words of a manifest.
func (t *tree) look(path, rel string) (member, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	raw := st.Sys().(*syscall.Stat_t)
	m := member{
		"mode": fmt.Sprintf("%04o", raw.Mode&0o7777),
		"time": fmt.Sprintf("%d.%09d", raw.Mtim.Sec, raw.Mtim.Nsec),
	}
	switch {
	case st.IsDir():
		m["type"] = "dir"
	case st.Mode()&fs.ModeSymlink != 0:
		m["type"] = "link"
		m["link"], err = os.Readlink(path)
	case st.Mode().IsRegular():
		m["type"], m["size"] = "file", strconv.FormatInt(st.Size(), 10)
		m["sha256digest"], err = digest(path)
		t.inodes[rel], t.sizes[raw.Ino] = raw.Ino, st.Size()
		if st.Name() == ".ref" || st.Size() == 0 {
			t.lone[rel] = links(st)
		}
	default:
		m["type"] = st.Mode().Type().String()
	}
	return m, err
}

// size is that of the content, each inode once.
func (t *tree) size() (sum int64) {
	for _, size := range t.sizes {
		sum += size
	}
	return sum
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return hex.EncodeToString(sum.Sum(nil)), err
}

// links compares which files are one with the groups that should be.
func (t *tree) links(groups [][]string) (problems []string) {
	group := make(map[string]int)
	for i, paths := range groups {
		if len(paths) < 2 {
			problems = append(problems, fmt.Sprintf("a group of links is %q", paths))
		}
		for _, path := range paths {
			switch {
			case t.inodes[path] == 0:
				problems = append(problems, fmt.Sprintf("%q, in a group of links, is no file", path))
			case group[path] != 0:
				problems = append(problems, fmt.Sprintf("%q is twice in the groups of links", path))
			}
			group[path] = i + 1
		}
	}
	first := make(map[uint64]string)
	for _, path := range slices.Sorted(maps.Keys(t.inodes)) {
		ino := t.inodes[path]
		one, seen := first[ino]
		if !seen {
			first[ino] = path
			continue
		}
		if group[path] == 0 || group[path] != group[one] {
			problems = append(problems, fmt.Sprintf("%q and %q are one file", one, path))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(t.lone)) {
		names := 1
		if g := group[path]; g > 0 {
			names = len(groups[g-1])
		}
		if t.lone[path] != uint64(names) {
			problems = append(problems, fmt.Sprintf("%q has %d links, not %d", path, t.lone[path], names))
		}
	}
	for _, paths := range groups {
		for _, path := range paths[min(1, len(paths)):] {
			if t.inodes[path] != t.inodes[paths[0]] {
				problems = append(problems, fmt.Sprintf("%q and %q are not one file", paths[0], path))
			}
		}
	}
	return problems
}
