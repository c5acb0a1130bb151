package check_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/test/check"
)

// The checker finds what it is there to find.
func TestBreakages(t *testing.T) {
	dir := t.TempDir()
	run := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "berth"), "berth/cmd/berth")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run(`mkdir -p tree/d; echo a >tree/a; ln tree/a tree/d/b; echo c >'tree/d/c d'; ln -s a tree/l
: >tree/e; mkdir tree/app; : >tree/app/.ref
./berth --store sound install ./tree --as demo@1 --no-sync
./berth --store sound install ./tree --as demo@2 --no-sync`)
	edit := func(sed string) string {
		return "zcat 1/manifest.mtree.gz | sed '" + sed + "' | gzip >x; mv x 1/manifest.mtree.gz"
	}
	for want, script := range map[string]string{
		"":                                "true",
		"missing \"a\"":                   "rm 1/files/a",
		"extra \"x\"":                     "echo >1/files/x",
		"changed \"d/c d\": sha256":       "echo d >1/files/d/'c d'",
		"changed \"d/c d\": mode":         "chmod 600 1/files/d/'c d'",
		"changed \"d\": time":             "touch 1/files/d",
		"changed \"l\": link":             "ln -sfn b 1/files/l",
		"are not one file":                "cp -p 1/files/a x; mv x 1/files/a",
		"are one file":                    "ln -f 1/files/d/'c d' 1/files/a",
		"files/.ref: -rw-r--r--, 0 b":     "ln 1/files/.ref ../../../x",
		"no such file or directory":       "rm 1/files/.ref",
		"manifest: ":                      "truncate -s 10 1/manifest.mtree.gz",
		"\"a\" twice":                     edit("/^.\\/a /p"),
		"\"a\": has no sha256digest":      edit("/^.\\/a /s/ sha256digest=.*//"),
		"begins with":                     edit("1d"),
		"no root":                         edit("/^. /d"),
		"\"e\" has 2 links, not 1":        "ln -f 1/files/e 2/files/e",
		"\"app/.ref\" has 2 links":        "ln -f 1/files/app/.ref 2/files/app/.ref",
		"activated is no regular file":    "rm 1/activated; mkdir 1/activated",
		"-> \"..\", which is not":         "ln -sfn .. current",
		"a cut escape":                    edit("s/^.\\/a /.\\/a\\\\04 /"),
		"of something else":               "cp 2/deployment.toml 1/",
		"which is not listed":             "ln -sfn 3 current",
		"runtimes/demo/y in a runtime":    "touch y",
		"\"y\" in the store":              "touch ../../y",
		"-> \"./1\", which is not":        "ln -sfn ./1 current",
		"-> \"1/\", which is not":         "ln -sfn 1/ current",
		"/runtimes/demo/1\", which is":    `ln -sfn "$PWD/1" current`,
		"-> \"1\", which is condemned":    "touch 1/deferred",
		"readlink":                        "rm current; mkdir current",
		"runtimes/demo/4 in a runtime":    "ln -s 2 4",
		"\".2\" is no version":            "mv 2 .2",
		"runtimes/\".x\" is no name":      "mkdir ../.x",
		"runtimes/x is no directory":      "touch ../x",
		"\"staging\" in the store":        "rmdir ../../staging; ln -s trash ../../staging",
		"lock has the mode -rw-r--r--":    "chmod 644 ../../lock",
		"trash has the mode drwxrwxr":     "chmod 775 ../../trash",
		"demo has the mode drwxrwxrwx":    "chmod 777 .",
		"demo@1: it has the mode drwxrwx": "chmod 777 1",
		"metadata has the mode -rw-rw":    "touch 1/metadata; chmod 664 1/metadata",
		"keep is no regular file":         "mkdir 1/keep",
		"deferred is no regular file":     "ln -s activated 2/deferred",
		"activated has 2 links":           "ln -f 1/activated 2/activated",
		"metadata has 2 links":            "touch 1/metadata; ln 1/metadata 2/metadata",
		"\"x\" beside files":              "touch 1/x",
		"changed \".\": type is":          "mv 1/files ../../../z; ln -s ../../../../z 1/files",
		"extra \"x/y\"":                   "mkdir 1/files/x; touch 1/files/x/y",
		"extra \"e\"":                     edit("/^.\\/e /d"),
		"missing \"../x\"":                edit("s/^.\\/e /.\\/..\\/x /"),
		"manifest: begins with \"\"":      "printf '\n' | gzip >1/manifest.mtree.gz",
		"manifest: no root":               "printf '#mtree\n' | gzip >1/manifest.mtree.gz",
		"manifest: EOF":                   ": >1/manifest.mtree.gz",
		"manifest: unexpected EOF":        "truncate -s -9 1/manifest.mtree.gz",
		"\"./e\": size twice":             edit("/^.\\/e /s/$/ size=0/"),
		"\"e\": has the type \"fifo\"":    edit("/^.\\/e /s/type=file/type=fifo/"),
		"\"e\": has the mode 4644":        edit("/^.\\/e /s/mode=0*644/mode=4644/") + "; chmod 4644 1/files/e",
		"changed \"e\": type is \"p":      "rm 1/files/e; mkfifo 1/files/e",
		"files/.ref: -rw-rw-rw-":          "chmod 666 1/files/.ref",
		"files/.ref: -rw-r--r--, 1 by":    "printf x >1/files/.ref",
		"files/.ref: Lrwx":                "ln -sf e 1/files/.ref",
		"bytes, 2 links":                  "ln -f 1/files/.ref 2/files/.ref",
		"deployment.toml: has":            "sed -i '1iodd = 1' 1/deployment.toml",
		"has 1 bytes, files 4":            "sed -i 's/^size = .*/size = 1/' 1/deployment.toml",
		"in a group of links, is no":      "sed -i 's/\"d.b\"/\"d\"/' 1/deployment.toml",
		"a group of links is [\"a\"]":     "sed -i 's/, \"d.b\"//' 1/deployment.toml",
		"is twice in the groups":          "sed -i 's/\"d.b\"/\"d\\/b\", \"a\"/' 1/deployment.toml",
	} {
		run("rm -rf store; cp -a sound store; cd store/runtimes/demo; " + script)
		r, err := check.Store(filepath.Join(dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		if found := strings.Join(r.Problems, "\n"); !strings.Contains(found, want) || (want == "") != (found == "") {
			t.Errorf("%s: found %q, want %q", script, found, want)
		}
		if len(r.Listed) != 2 || len(r.Left) != 0 || want == "" && r.Current["demo"] != "1" {
			t.Errorf("%s: %+v", script, r)
		}
	}
	if _, err := check.Store(filepath.Join(dir, "none")); err == nil {
		t.Error("a store that is not there is sound")
	}
	run("rm -rf store; cp -a sound store; mkdir store/trash/left")
	if r, _ := check.Store(filepath.Join(dir, "store")); len(r.Left) != 1 || r.Left[0] != "trash/left" {
		t.Errorf("left: %q", r.Left)
	}
}
