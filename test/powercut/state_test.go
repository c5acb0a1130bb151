package powercut

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A state is what a store promises to know after it has said so: which
// versions are listed, with which content, which one is current, and the marks.
// The keys are such as "listed 1.0", "pinned 1.0" and "current".
type state map[string]string

// name is the only runtime of these stores.
const name = "demo"

// look reads the state of a store from its directories. A store that is not
// there is empty.
func look(store string) (state, error) {
	s := make(state)
	rt := filepath.Join(store, "runtimes", name)
	list, err := os.ReadDir(rt)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	for _, e := range list {
		version := e.Name()
		if version == "current" {
			if s["current"], err = os.Readlink(filepath.Join(rt, version)); err != nil {
				return nil, err
			}
			continue
		}
		content, err := os.ReadFile(filepath.Join(rt, version, "files", "build"))
		if err != nil {
			content = []byte("(" + err.Error() + ")")
		}
		s["listed "+version] = string(content)
		for file, word := range map[string]string{"keep": "pinned ", "deferred": "deferred "} {
			if _, err := os.Lstat(filepath.Join(rt, version, file)); err == nil {
				s[word+version] = "yes"
			}
		}
	}
	return s, err
}

// listed are the versions that the state has, in order.
func (s state) listed() []string {
	var versions []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if version, ok := strings.CutPrefix(key, "listed "); ok {
			versions = append(versions, version)
		}
	}
	return versions
}

// neither tells what in s is neither as before nor as after. A part of the
// work of a command may be done, but nothing else than its work.
func (s state) neither(before, after state) []string {
	keys := maps.Clone(s)
	maps.Copy(keys, before)
	maps.Copy(keys, after)
	var found []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if s[key] != before[key] && s[key] != after[key] {
			found = append(found, fmt.Sprintf("%s is %s, and was %s before the command and %s after it",
				key, quote(s[key]), quote(before[key]), quote(after[key])))
		}
	}
	return found
}

// quote is for messages. What is not there has no value.
func quote(value string) string {
	if value == "" {
		return "not"
	}
	return `"` + value + `"`
}
