package crash

import "fmt"

// A scenario is one command on a world.
type scenario struct {
	name    string
	prepare func(w *world) // nil: the world as it is
	args    []string
	held    string // the version that a program runs on meanwhile
	// rebuilt is the version whose tree is another one when the work is done.
	rebuilt string
	// broken are beginnings of the problems that are there on purpose, and may
	// be there until the work is done.
	broken []string
	// again are the exit statuses beside 0 of a second run that finds the work
	// done.
	again []int
	// toggles says that a second run takes back what the first has done.
	toggles bool
	// sighted says that the command must be able to see all processes.
	sighted bool
}

func scenarios() []scenario {
	shell := func(script string) func(*world) { return func(w *world) { w.shell(script) } }
	return []scenario{
		{name: "install in a new store", args: []string{"install", archive("1")}, prepare: shell("rm -r store")},
		{name: "install the first", args: []string{"install", archive("1")}, prepare: func(w *world) { w.must("remove", "demo", "--all") }},
		{name: "install", args: []string{"install", archive("3")}, held: "1"},
		{name: "install --switch", args: []string{"install", archive("3"), "--switch"}, held: "2"},
		{name: "install --force", args: []string{"install", archive("1"), "--force"}, held: "2", rebuilt: "1"},
		{name: "install --force of current", args: []string{"install", archive("2"), "--force"}, held: "1", rebuilt: "2"},
		{name: "install again", args: []string{"install", archive("1"), "--switch"}, prepare: func(w *world) {
			// It waits for a user who has gone since.
			defer w.hold("1").release()
			w.must("remove", "--defer", "demo@1")
		}},
		{name: "upgrade", args: []string{"upgrade"}, held: "2"},
		{name: "upgrade from an indexed archive", args: []string{"upgrade"}, held: "2", prepare: func(w *world) {
			w.shell(fmt.Sprintf(`mkdir channel
%s pack %s -o channel/demo-3.tar.zst >channel/SHA256SUMS
sed -i "s,^source.*,source = '$PWD/channel'," config.toml`, berth, archive("3")))
		}},
		{name: "install a directory", args: []string{"install", "./tree", "--as", "demo@3"}, held: "2",
			prepare: func(w *world) { w.shell("mkdir tree; tar -C tree -xf " + archive("3")) }},
		{name: "switch", args: []string{"switch", "demo@1"}, held: "2"},
		{name: "rollback", args: []string{"rollback", "demo"}, toggles: true},
		{name: "remove", args: []string{"remove", "demo@1"}, held: "2", again: []int{66}},
		{name: "remove the last", args: []string{"remove", "demo@2"}, again: []int{66}, prepare: func(w *world) { w.must("remove", "demo@1") }},
		{name: "remove --all", args: []string{"remove", "demo", "--all"}, again: []int{66}},
		{name: "remove --defer", args: []string{"remove", "--defer", "demo@1"}, held: "1"},
		{name: "gc", args: []string{"gc"}, held: "2", prepare: func(w *world) {
			for _, version := range []string{"0.1", "0.2"} {
				w.must("install", archive("3"), "--as", "demo@"+version, "--no-sync")
			}
			w.shell("mv store/runtimes/demo/0.2 store/trash/demo@0.2.abcdefgh")
		}},
		{name: "pin", args: []string{"pin", "demo@1"}},
		{name: "unpin", args: []string{"unpin", "demo@1"}, prepare: shell(": >store/runtimes/demo/1/keep")},
		{name: "repair from the origin", args: []string{"repair", "demo@1"}, held: "2", rebuilt: "1",
			broken:  []string{`demo@1: missing "bin/tool1"`, `demo@1: missing "lib/same3"`, `demo@1: extra "extra"`, `demo@1: changed "`},
			prepare: shell("cd store/runtimes/demo/1/files; rm bin/tool1 lib/same3; echo >extra")},
		{name: "repair", args: []string{"repair", "demo@1"}, held: "2", rebuilt: "1",
			broken:  []string{`demo@1: changed "`},
			prepare: shell("cd store/runtimes/demo/1/files; chmod 600 bin/tool1; touch lib")},
		{name: "repair of the lock", args: []string{"repair", "demo@1"}, sighted: true,
			broken:  []string{`demo@1: files/.ref: `, `demo@1: missing ".ref"`, `demo@1: changed "."`, `demo@1: changed ".ref"`},
			prepare: shell("rm store/runtimes/demo/1/files/.ref")},
	}
}
