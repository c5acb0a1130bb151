// Package archive unpacks trees: from tar archives, compressed or not, and
// from directories, safely, and hashes every file on the way.
//
// An archive is untrusted. Whatever its members are called and in whatever
// order they come, nothing outside the destination is written, followed or
// changed. Members are found through descriptors of the directories that they
// are in, one path part at a time, never through a symbolic link. What cannot
// be unpacked safely fails the whole, with an error that names the member.
//
// What tar would keep is kept: modes whatever the umask, times to the
// nanosecond, hard links, holes, link targets as they are. Left out, and
// counted, are setuid and setgid bits, device nodes, fifos and sockets, and
// extended attributes other than user.*. The owner is the caller.
package archive

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"berth/store/manifest"
)

// The names below a destination.
const (
	filesName    = "files"
	metadataName = "metadata"
)

// maxMetadata is the most that a metadata file may have, in bytes.
const maxMetadata = 1 << 20

var (
	// ErrUnsafe says that a member would leave the tree: by its name, through
	// a symbolic link or as a hard link to something that is no file of it.
	ErrUnsafe = errors.New("unsafe")
	// ErrFormat says that the source is no archive that we know, or is
	// truncated, corrupt, followed by garbage, or contradicts itself.
	ErrFormat = errors.New("bad archive")
	// ErrTooBig says that a limit is exceeded.
	ErrTooBig = errors.New("too big")
)

// MemberError says which member is refused.
type MemberError struct {
	Member string // as the archive names it
	Err    error
}

// Error quotes the name, which is untrusted.
func (e *MemberError) Error() string {
	return fmt.Sprintf("member %s: %s", strconv.Quote(e.Member), e.Err)
}

func (e *MemberError) Unwrap() error { return e.Err }

// Options say what to make and what not to take.
type Options struct {
	// LockFile is made at the top of files/, in place of a regular file that
	// the source has there: an empty regular file, mode 0644, one link. Its
	// time is that of the file it replaces, else that of the newest member.
	// "" makes none.
	LockFile string
	// MaxSize is the most bytes that the members may have in all, by their
	// logical size: holes count. 0 is no limit.
	MaxSize int64
	// MaxMembers is the most members that the source may have. 0 is no limit.
	MaxMembers int
	// Donors are trees from which a file of the same content, mode, time and
	// user.* attributes is linked instead of written. Never linked are lock
	// files (by the name LockFile), empty files, and two files of the source
	// to one of a donor. What cannot be linked is written.
	Donors []Donor
	// VerifyDonors compares the content of what is linked, too. Without it the
	// size, mode and time that the donor's manifest has must be found on disk.
	VerifyDonors bool
	// WriteBack has the kernel begin to write large files to the disk at once,
	// for a caller who is going to wait for that.
	WriteBack bool
	// Whole, if not nil, is the archive that is unpacked, to be read at any
	// place. If it ends with a zstd:chunked table of contents, that must agree
	// with what is unpacked.
	Whole *Whole
	// Read, if not nil, is called with the count of source bytes consumed
	// since the last call. The calls are never concurrent and all precede the
	// return. Unpack makes them from a goroutine of its own, Copy from the
	// caller's.
	Read func(n int64)
}

// Whole is an archive of so many bytes.
type Whole struct {
	io.ReaderAt
	Size int64
}

// Tree is what was unpacked.
type Tree struct {
	// Entries are those of files/, sorted by Path bytewise, "." first, with
	// the lock file.
	Entries []manifest.Entry
	// LinkGroups are the paths of files/ that are one inode, two or more each,
	// sorted.
	LinkGroups [][]string
	// Size is the content of files/ in bytes, each inode once.
	Size int64
	// Metadata is the content of the file of that name beside files/, which is
	// in the destination too (mode 0644). Nil: there is none.
	Metadata []byte
	Dropped  Dropped
	// Reused is the content in bytes of the ReusedFiles that were linked from
	// donors, each once.
	Reused      int64
	ReusedFiles int
	// Changed are the files of donors, and the manifests, that are not what
	// they should be, and were not used.
	Changed []string
	// Digest is the SHA-256 of the source's bytes as they came, compressed. It
	// is zero for a directory, and where only parts were read.
	Digest [32]byte
	// SourceSize counts the source's bytes: the archive's, or the content read
	// from a directory.
	SourceSize int64
}

// Dropped counts what was left out.
type Dropped struct {
	SetID  int // members whose setuid or setgid bits were cleared
	Xattrs int // extended attributes
	Nodes  int // devices, fifos and sockets
	Beside int // top-level members beside files/ and metadata
}
