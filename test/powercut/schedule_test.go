package powercut

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// most is how many versions a schedule lets a disk have.
const most = 4

// anything chooses an op of any kind that the state permits.
func (s *session) anything(now state) op {
	s.t.Helper()
	listed := now.listed()
	others := slices.DeleteFunc(slices.Clone(listed), func(v string) bool {
		return v == now["current"] || now["pinned "+v] != "" || now["deferred "+v] != ""
	})
	ready := slices.DeleteFunc(slices.Clone(listed), func(v string) bool { return now["deferred "+v] != "" })
	pick := func(versions []string) string { return versions[s.random.IntN(len(versions))] }
	if len(ready) == 0 {
		return s.install(s.version(), false)
	}
	if len(listed) >= most {
		for _, v := range listed {
			if now["pinned "+v] != "" {
				return op{args: []string{"unpin", name + "@" + v}}
			}
		}
		return op{args: []string{"gc", "--keep", "0"}}
	}
	for {
		switch s.random.IntN(13) {
		case 0, 1:
			return s.install(s.version(), s.random.IntN(2) == 0)
		case 2, 3, 4:
			return s.upgrade()
		case 5:
			return op{args: []string{"gc"}}
		case 6:
			return op{args: []string{"gc", "--keep", "0"}}
		case 7:
			if len(others) > 0 {
				return op{args: []string{"remove", name + "@" + pick(others)}, again: []int{66}}
			}
			if len(listed) == 1 && now["pinned "+listed[0]] == "" {
				return op{args: []string{"remove", name, "--all"}, again: []int{66}}
			}
		case 8:
			if len(others) > 0 {
				v := pick(others)
				return op{args: []string{"remove", "--defer", name + "@" + v}, again: []int{66}, after: s.hold(v)}
			}
		case 9:
			if len(others) > 0 {
				return op{args: []string{"switch", name + "@" + pick(others)}}
			}
			return op{args: []string{"rollback", name}, again: []int{66}}
		case 10:
			v := pick(ready)
			if now["pinned "+v] != "" {
				return op{args: []string{"unpin", name + "@" + v}}
			}
			return op{args: []string{"pin", name + "@" + v}}
		case 11:
			v := pick(ready)
			build := "one"
			if now["listed "+v] == build {
				build = "two"
			}
			return op{args: []string{"install", "--force", s.archive(v, build)}}
		case 12:
			v := pick(ready)
			return op{known: s.damage(v), args: []string{"repair", name + "@" + v}}
		}
	}
}

// version makes up a new one.
func (s *session) version() string {
	v := fmt.Sprintf("%d.0", s.next)
	s.next++
	return v
}

func (s *session) install(version string, activate bool, flags ...string) op {
	s.t.Helper()
	args := append([]string{"install", s.archive(version, "one")}, flags...)
	if activate {
		args = append(args, "--switch")
	}
	return op{args: args}
}

// upgrade puts a new version into the channel first.
func (s *session) upgrade() op {
	s.t.Helper()
	archive := s.archive(s.version(), "one")
	content, err := os.ReadFile(archive)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Link(archive, filepath.Join(s.channel(), filepath.Base(archive))); err != nil {
		s.t.Fatal(err)
	}
	sums := fmt.Sprintf("%x  %s\n", sha256.Sum256(content), filepath.Base(archive))
	if err := os.WriteFile(filepath.Join(s.channel(), "SHA256SUMS"), []byte(sums), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return op{args: []string{"upgrade", name}}
}

// unsynced installs without the final sync.
func (s *session) unsynced(state) op {
	s.t.Helper()
	return s.install(s.version(), true, "--no-sync")
}
