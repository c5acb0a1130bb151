// Package check looks whether a store keeps its promises. It knows the layout
// from the documentation alone and shares no code with what it checks: it reads
// the directories, unpacks the manifests and hashes the files.
package check

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Report is what was found in a store.
type Report struct {
	Listed   []string          // "NAME@VERSION", whole or not, sorted
	Current  map[string]string // by the runtime's name
	Problems []string          // promises that are broken
	Left     []string          // what lies in staging and trash, relative to the store
}

// Store reads a whole store. The error says that it could not be looked at; what
// is wrong with it is in the report.
func Store(dir string) (Report, error) {
	r := Report{Current: make(map[string]string)}
	names, err := os.ReadDir(dir)
	if err != nil {
		return r, err
	}
	for _, e := range names {
		want, known := map[string]os.FileMode{
			"store.toml": 0, "lock": 0, "runtimes": os.ModeDir, "staging": os.ModeDir, "trash": os.ModeDir,
		}[e.Name()]
		if !known || e.Type() != want {
			r.problem("%q in the store", e.Name())
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "store.toml")); err != nil || string(text) != "format = 1\n" {
		r.problem("store.toml: %q, %v", text, err)
	}
	runtimes, err := os.ReadDir(filepath.Join(dir, "runtimes"))
	if err != nil {
		return r, err
	}
	for _, e := range runtimes {
		if !e.IsDir() {
			r.problem("runtimes/%s is no directory", e.Name())
		} else if err := r.runtime(filepath.Join(dir, "runtimes", e.Name()), e.Name()); err != nil {
			return r, err
		}
	}
	for _, part := range []string{"staging", "trash"} {
		list, err := os.ReadDir(filepath.Join(dir, part))
		if err != nil {
			return r, err
		}
		for _, e := range list {
			r.Left = append(r.Left, part+"/"+e.Name())
		}
	}
	slices.Sort(r.Listed)
	return r, nil
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func (r *Report) runtime(dir, name string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == "current":
			to, err := os.Readlink(path)
			if err != nil {
				r.problem("%s: %v", path, err)
				continue
			}
			r.Current[name] = to
			if !slices.ContainsFunc(list, func(e os.DirEntry) bool { return e.IsDir() && e.Name() == to }) {
				r.problem("%s -> %q, which is not listed", path, to)
			}
		case e.IsDir():
			r.Listed = append(r.Listed, name+"@"+e.Name())
			for _, p := range Deployment(path) {
				r.problem("%s@%s: %s", name, e.Name(), p)
			}
			text, err := os.ReadFile(filepath.Join(path, "deployment.toml"))
			for _, line := range []string{fmt.Sprintf("name = %q\n", name), fmt.Sprintf("version = %q\n", e.Name())} {
				if err == nil && !strings.Contains(string(text), line) {
					r.problem("%s@%s: deployment.toml is of something else", name, e.Name())
				}
			}
		default:
			r.problem("%s in a runtime's directory", path)
		}
	}
	return nil
}

// Deployment compares one deployment with its own manifest, and returns what is
// wrong.
func Deployment(dir string) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	list, err := os.ReadDir(dir)
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range list {
		switch e.Name() {
		case "files":
		case "metadata", "manifest.mtree.gz", "deployment.toml", "activated", "keep", "deferred":
			if !e.Type().IsRegular() {
				wrong("%s is no regular file", e.Name())
			}
		default:
			wrong("%q beside files", e.Name())
		}
	}
	for _, name := range []string{"manifest.mtree.gz", "deployment.toml"} {
		if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || !st.Mode().IsRegular() || st.Mode().Perm() != 0o644 || st.Size() == 0 {
			wrong("%s: %v, %v", name, st, err)
		}
	}
	expected, err := readManifest(filepath.Join(dir, "manifest.mtree.gz"))
	if err != nil {
		wrong("manifest: %v", err)
		return problems
	}
	t := tree{root: filepath.Join(dir, "files"), expected: expected}
	problems = append(problems, t.compare()...)
	if groups, err := linkGroups(filepath.Join(dir, "deployment.toml")); err != nil {
		wrong("deployment.toml: %v", err)
	} else {
		problems = append(problems, t.links(groups)...)
	}
	if why := lockFile(filepath.Join(dir, "files", ".ref")); why != nil {
		wrong("files/.ref: %v", why)
	}
	return problems
}

// lockFile tells what makes a file unfit to be a deployment's lock.
func lockFile(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm() != 0o644 || st.Size() != 0 || links(st) != 1 {
		return errors.New(fmt.Sprint(st.Mode(), ", ", st.Size(), " bytes, ", links(st), " links"))
	}
	return nil
}
