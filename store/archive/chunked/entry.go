package chunked

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strings"
	"time"
)

// A Digest is a SHA-256.
type Digest = [sha256.Size]byte

const digestPrefix = "sha256:"

// An Entry is one member of the archive as the table has it. It is not to be
// changed. Nothing says that its name is a safe one.
type Entry struct {
	Type               byte // tar.TypeReg, TypeLink, TypeSymlink, TypeDir, TypeChar, TypeBlock or TypeFifo
	Name               string
	Linkname           string
	Mode               int64 // as in tar, with setuid, setgid and sticky bit
	UID, GID           int
	Size               int64 // of a regular file, in bytes; else 0
	ModTime            time.Time
	Devmajor, Devminor int64
	Xattrs             map[string]string
	Digest             Digest // of a regular file's content, the empty one's too

	chunks []chunk
}

// A chunk is a piece of a file that can be decoded alone.
type chunk struct {
	stored  span
	size    int64
	zeros   bool
	checked bool // digest is known
	digest  Digest
}

// Header makes the header that a tar reader returns, in its essence.
func (e *Entry) Header() *tar.Header {
	h := &tar.Header{
		Typeflag: e.Type, Name: e.Name, Linkname: e.Linkname, Size: e.Size, Mode: e.Mode,
		Uid: e.UID, Gid: e.GID, ModTime: e.ModTime, Devmajor: e.Devmajor, Devminor: e.Devminor,
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.Xattrs))
		for name, value := range e.Xattrs {
			h.PAXRecords[xattrRecord+name] = value
		}
	}
	return h
}

const xattrRecord = "SCHILY.xattr."

// xattrs are the extended attributes of a member.
func xattrs(h *tar.Header) map[string]string {
	var attrs map[string]string
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrRecord); ok {
			if attrs == nil {
				attrs = make(map[string]string)
			}
			attrs[name] = value
		}
	}
	return attrs
}

// agrees returns what is wrong with the entry if h is the member's header.
func (e *Entry) agrees(h *tar.Header) error {
	switch {
	case e.Type != h.Typeflag:
		return bad("the table has the type %q, the archive %q", e.Type, h.Typeflag)
	case e.Type == tar.TypeReg && e.Size != h.Size:
		return bad("the table has %d bytes, the archive %d", e.Size, h.Size)
	case (e.Type == tar.TypeLink || e.Type == tar.TypeSymlink) && e.Linkname != h.Linkname:
		return bad("the table has the link target %q, the archive %q", e.Linkname, h.Linkname)
	case e.Mode != h.Mode:
		return bad("the table has the mode %#o, the archive %#o", e.Mode, h.Mode)
	case e.UID != h.Uid || e.GID != h.Gid:
		return bad("the table has the owner %d:%d, the archive %d:%d", e.UID, e.GID, h.Uid, h.Gid)
	case !e.ModTime.Equal(h.ModTime):
		return bad("the table has the time %s, the archive %s", stamp(e.ModTime), stamp(h.ModTime))
	case (e.Type == tar.TypeChar || e.Type == tar.TypeBlock) && (e.Devmajor != h.Devmajor || e.Devminor != h.Devminor):
		return bad("the table has the device %d,%d, the archive %d,%d", e.Devmajor, e.Devminor, h.Devmajor, h.Devminor)
	case !maps.Equal(e.Xattrs, xattrs(h)):
		return bad("the table has other extended attributes than the archive")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func formatDigest(d Digest) string { return digestPrefix + hex.EncodeToString(d[:]) }

func parseDigest(s string) (d Digest, ok bool) {
	s, ok = strings.CutPrefix(s, digestPrefix)
	if !ok || len(s) != hex.EncodedLen(len(d)) {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err == nil
}

func encodeXattrs(attrs map[string]string) map[string]string {
	if len(attrs) == 0 {
		return nil
	}
	encoded := make(map[string]string, len(attrs))
	for name, value := range attrs {
		encoded[name] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	return encoded
}
