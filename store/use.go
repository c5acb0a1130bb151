package store

import (
	"context"
	"os"
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
}

// Sight is what a Looker saw of some trees.
type Sight struct {
	Uses [][]Use // of each tree, in the order in which the trees were given
	// Blind says, a phrase each, what could not be seen and might hide a use:
	// "processes of other accounts". Nil if the evidence is complete.
	Blind []string
}

// A Looker finds the processes that use trees, by their locks and otherwise.
//
// Look is one pass over all processes for all the trees. It leaves out the
// calling process. A process that ends while it is looked at is no error.
// Look changes nothing, may be called concurrently, and stops when ctx is done.
type Looker interface {
	Look(ctx context.Context, trees []Tree) (Sight, error)
}
