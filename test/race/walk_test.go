package race

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// walkVariable makes this program a reader under berth exec: one that looks at
// every file of the version twice, with so long a pause in between.
const walkVariable = "BERTH_RACE_WALK"

// closeVariable makes it close the descriptor of the lock first, as daemons do.
const closeVariable = "BERTH_RACE_CLOSE"

// whole is what a reader says when it has seen all it came for.
const whole = "whole\n"

func walkMain(pause string) int {
	between, err := time.ParseDuration(pause)
	if err == nil {
		err = walkTwice(os.Getenv("BERTH_FILES"), os.Getenv("BERTH_REF"), between)
	}
	if err != nil {
		fmt.Println("bad:", err)
		return 1
	}
	fmt.Print(whole)
	return 0
}

func walkTwice(files, ref string, pause time.Duration) error {
	_, version, ok := strings.Cut(ref, "@")
	if !ok {
		return fmt.Errorf("BERTH_REF is %q", ref)
	}
	if err := checkLock(files); err != nil {
		return err
	}
	build, err := os.ReadFile(filepath.Join(files, "build"))
	if err != nil {
		return err
	}
	want := members(version, strings.TrimSpace(string(build)))
	for range 2 {
		if err := walk(files, want); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	return nil
}

// checkLock looks whether the descriptor that came along is the lock file of
// the tree that came along.
func checkLock(files string) error {
	fd, err := strconv.Atoi(os.Getenv("BERTH_LOCK_FD"))
	if err != nil {
		return err
	}
	if os.Getenv(closeVariable) != "" {
		return unix.Close(fd)
	}
	var held, named unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &held), unix.Stat(filepath.Join(files, ".ref"), &named)); err != nil {
		return fmt.Errorf("look at the lock: %w", err)
	}
	if held.Ino != named.Ino || held.Dev != named.Dev {
		return errors.New("the lock is on another file than the .ref of the tree")
	}
	return nil
}

// walk compares a tree with what has to be in it.
func walk(files string, want map[string][]byte) error {
	seen := 0
	err := filepath.WalkDir(files, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == ".ref" {
			return err
		}
		rel, err := filepath.Rel(files, path)
		if err != nil {
			return err
		}
		seen++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if expected, ok := want[rel]; rel != "bin/busybox" && (!ok || !bytes.Equal(content, expected)) {
			return fmt.Errorf("%s is not what it was, or does not belong there", rel)
		}
		return nil
	})
	if err == nil && seen != len(want)+1 {
		err = fmt.Errorf("%d files where %d should be", seen, len(want)+1)
	}
	return err
}

// insideScript does the same with the runtime's own program. Its arguments are
// the root of the tree, the version, the pause and where the digests are.
const insideScript = `
b=$1/bin/busybox
build=$($b cat "$1/build" 2>&1) || { echo "bad: $build"; exit 1; }
for i in 1 2; do
	out=$(cd "$1" && $b sha256sum -c "$4/$2-$build" 2>&1) || {
		echo "bad: $2-$build, look $i:"; echo "$out" | $b grep -v ': OK$'; exit 1
	}
	n=$($b find "$1" -type f ! -name .ref | $b wc -l)
	[ "$n" -eq %d ] || { echo "bad: $n files, look $i"; exit 1; }
	$b sleep "$3"
done
echo whole
`

// foreignScript is a reader that looks only once, as launchers in other
// languages do it: it opens the tree and the lock file, locks, and starts.
const foreignScript = `
import fcntl, hashlib, os, stat, struct, sys, time
kind, files, version, sums, before, between = sys.argv[1:]

def refuse(why):
    print('refused:', why)
    sys.exit(75)

try:
    root = os.open(files, os.O_PATH | os.O_DIRECTORY)
    ref = os.open('.ref', os.O_RDONLY, dir_fd=root)
except FileNotFoundError:
    refuse('nothing there')
time.sleep(float(before))
try:
    if kind == 'ofd':
        F_OFD_SETLK = 37
        fcntl.fcntl(ref, F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    else:
        fcntl.lockf(ref, fcntl.LOCK_SH | fcntl.LOCK_NB)
except BlockingIOError:
    refuse('locked')

def read(path):
    fd = os.open(path, os.O_RDONLY, dir_fd=root)
    with os.fdopen(fd, 'rb') as f:
        return f.read()

# A process-associated lock goes when any descriptor of the file is closed:
# nothing here opens .ref again.
try:
    build = read('build').decode().strip()
    want = {}
    with open(sums + '/' + version + '-' + build) as f:
        for line in f:
            digest, path = line.rstrip('\n').split('  ', 1)
            want[path] = digest
    for look in 1, 2:
        seen = {}
        for top, _, names, fd in os.fwalk('.', dir_fd=root):
            for name in names:
                path = os.path.normpath(os.path.join(top, name))
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                if name != '.ref' and stat.S_ISREG(mode):
                    seen[path] = hashlib.sha256(read(path)).hexdigest()
        if seen != want:
            raise Exception('look %d: %s' % (look, sorted(set(seen.items()) ^ set(want.items()))[:3]))
        time.sleep(float(between))
except Exception as e:
    print('bad:', type(e).__name__, e)
    sys.exit(1)
print('whole')
`
