package store

import (
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// How says in which way a process uses a tree.
type How string

const (
	ByLock  How = "lock"  // it has a lock on a file named .ref of the tree
	ByMap   How = "map"   // it maps a file of the tree
	ByMount How = "mount" // the tree, or a part, is mounted in its mount namespace
	ByRoot  How = "root"  // its root directory is in the tree
	ByCwd   How = "cwd"   // its working directory is in the tree
	ByExe   How = "exe"   // it runs an executable of the tree
	ByFD    How = "fd"    // it has a file or directory of the tree open
)

// Use is one way in which one process uses a tree. A process that uses it in
// several ways has one Use for each.
type Use struct {
	PID     int
	Account string    // the user's name, or the number of a user without one
	Command string    // the command's own name, as comm(5) of proc_pid_comm(5); untrusted
	Since   time.Time // when the process started
	How     How
	// Path is what it uses, relative to the tree, slash-separated, "." for the
	// tree itself. Of many files used in the same way it names one.
	Path string
}

// A Tree is a directory of the store that may be in use: a deployment, or what
// is left of one in the trash.
type Tree struct {
	Dir  *os.File // open, O_PATH will do
	Path string   // absolute, for people
	// Names are the last parts of paths that lead to it while it is listed, and
	// did before: "sniper/2.0", "sniper/current". Whoever has mounted it by one
	// of them may still have it by that name.
	Names []string
}

// Sight is what a Looker saw of some trees.
type Sight struct {
	Uses [][]Use // of each tree, in the order in which the trees were given
	// Blind is what could not be seen and might hide a use. Nil if the
	// evidence is complete.
	Blind []Blind
}

// BlindKind is what hides uses from a Looker.
type BlindKind string

const (
	BlindAccounts BlindKind = "accounts" // processes of others that we may not read
	BlindOwn      BlindKind = "own"      // processes of our account that we may not read
	BlindHidepid  BlindKind = "hidepid"  // /proc does not list the processes of others
	BlindPIDs     BlindKind = "pidns"    // we are in a PID namespace of our own
	BlindOverlay  BlindKind = "overlay"  // locks above and below an overlayfs do not meet
	BlindRemote   BlindKind = "remote"   // other machines use the file system too
	BlindMounts   BlindKind = "mounts"   // a mount namespace could not be read whole
)

// Blind is one thing that a Looker could not see.
type Blind struct {
	Kind BlindKind
	Text string // a phrase for people: "41 processes of other accounts"
}

// A Looker finds the processes that use trees, by their locks and otherwise.
//
// Look is one pass over all processes for all the trees. It leaves out the
// calling process. A process that ends while it is looked at is no error.
// Look changes nothing, may be called concurrently, and stops when ctx is done.
type Looker interface {
	Look(ctx context.Context, trees []Tree) (Sight, error)
}

// String names the process for people: its command, quoted if it is not a
// plain word, its number and the time of day or the day since when it runs.
func (u Use) String() string {
	command := u.Command
	if strings.IndexFunc(command, func(r rune) bool { return !strconv.IsPrint(r) || r == ' ' }) >= 0 || command == "" {
		command = strconv.Quote(command)
	}
	if u.Since.IsZero() {
		return fmt.Sprintf("%s (pid %d)", command, u.PID)
	}
	layout := "15:04"
	if time.Since(u.Since) > 20*time.Hour {
		layout = "2006-01-02 15:04"
	}
	return fmt.Sprintf("%s (pid %d, since %s)", command, u.PID, u.Since.Local().Format(layout))
}

// Counts tells whether the use alone keeps a tree listed. An open descriptor of
// a file named .ref does not, because other collectors have one; nor does one of
// the tree's own directory, because whoever lists the store has one. They have
// it for a moment only: what is about to be deleted waits for them.
func (u Use) Counts() bool {
	return u.How != ByFD || path.Base(u.Path) != refFile && u.Path != "."
}
