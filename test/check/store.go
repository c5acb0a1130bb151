// Package check looks whether a store keeps its promises. It knows the layout
// from the documentation alone and shares no code with what it checks: it reads
// the directories, unpacks the manifests and hashes the files.
package check

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// A Report is what was found in a store.
type Report struct {
	Listed   []string          // "NAME@VERSION", whole or not, sorted
	Current  map[string]string // by the runtime's name
	Problems []string          // promises that are broken
	Left     []string          // what lies in staging and trash, relative to the store
}

// name is what runtimes and versions may be called.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,95}$`)

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
			continue
		}
		st, err := e.Info()
		if err != nil {
			return r, err
		}
		mode := map[string]os.FileMode{"store.toml": 0o644, "lock": 0o600}[e.Name()]
		if mode == 0 {
			mode = 0o755
		}
		if st.Mode().Perm() != mode {
			r.problem("%s has the mode %v", e.Name(), st.Mode())
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
			continue
		}
		if !name.MatchString(e.Name()) {
			r.problem("runtimes/%q is no name", e.Name())
		}
		if err := r.runtime(filepath.Join(dir, "runtimes", e.Name()), e.Name()); err != nil {
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

func (r *Report) runtime(dir, of string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st.Mode().Perm() != 0o755 {
		r.problem("%s has the mode %v", of, st.Mode())
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == "current":
			r.current(path, of, list)
		case e.IsDir():
			if !name.MatchString(e.Name()) {
				r.problem("%s: %q is no version", of, e.Name())
			}
			r.Listed = append(r.Listed, of+"@"+e.Name())
			for _, p := range Deployment(path) {
				r.problem("%s@%s: %s", of, e.Name(), p)
			}
			record, err := readRecord(filepath.Join(path, "deployment.toml"))
			if err == nil && (record.Name != of || record.Version != e.Name()) {
				r.problem("%s@%s: deployment.toml is of something else", of, e.Name())
			}
		default:
			r.problem("%s in a runtime's directory", path)
		}
	}
	return nil
}

// current looks at the link of a runtime: it names one of its versions, and not
// a condemned one.
func (r *Report) current(path, of string, list []os.DirEntry) {
	to, err := os.Readlink(path)
	if err != nil {
		r.problem("%s: %v", path, err)
		return
	}
	r.Current[of] = to
	if !slices.ContainsFunc(list, func(e os.DirEntry) bool { return e.IsDir() && e.Name() == to }) {
		r.problem("%s -> %q, which is not listed", path, to)
	} else if _, err := os.Lstat(filepath.Join(filepath.Dir(path), to, "deferred")); err == nil {
		r.problem("%s -> %q, which is condemned", path, to)
	}
}

// Deployment compares one deployment with its own manifest, and returns what is
// wrong.
func Deployment(dir string) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	list, err := os.ReadDir(dir)
	if err != nil {
		return []string{err.Error()}
	}
	if st, err := os.Stat(dir); err == nil && st.Mode().Perm() != 0o755 {
		wrong("it has the mode %v", st.Mode())
	}
	for _, e := range list {
		switch e.Name() {
		case "files":
		case "metadata", "manifest.mtree.gz", "deployment.toml", "activated", "keep", "deferred":
			st, err := e.Info()
			switch {
			case err != nil:
				wrong("%v", err)
			case !st.Mode().IsRegular():
				wrong("%s is no regular file", e.Name())
			case links(st) != 1:
				wrong("%s has %d links", e.Name(), links(st))
			case st.Mode().Perm()&0o022 != 0:
				wrong("%s has the mode %v", e.Name(), st.Mode())
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
	if record, err := readRecord(filepath.Join(dir, "deployment.toml")); err != nil {
		wrong("deployment.toml: %v", err)
	} else {
		problems = append(problems, t.links(record.Links)...)
		if size := t.size(); len(problems) == 0 && record.Size != size {
			wrong("deployment.toml has %d bytes, files %d", record.Size, size)
		}
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
