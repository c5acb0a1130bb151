package archive

import (
	"archive/tar"
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"berth/store/archive/chunked"
)

// Packed is what became of an archive.
type Packed struct {
	Size    int64    // bytes
	TOC     [32]byte // SHA-256 of the table of contents
	Members int
	Sockets int // that were left out: an archive cannot have them
}

// PackDirectory writes a directory as a zstd:chunked archive: all that is in
// it, or of its top level only the names given, without the directory itself.
// The owner of everything is root, so that the same members make the same
// bytes. level is one of zstd's.
func PackDirectory(ctx context.Context, dir string, w io.Writer, level int, names ...string) (Packed, error) {
	walk, err := openWalk(dir, id{}, nil)
	if err != nil {
		return Packed{}, err
	}
	defer walk.close()
	walk.only, walk.skip = names, true
	done, err := packMembers(ctx, walk, w, level)
	done.Sockets = walk.socket
	return done, err
}

// Repack writes the members of an archive of any kind as a zstd:chunked one.
func Repack(ctx context.Context, r io.Reader, w io.Writer, level int) (Packed, error) {
	ctx, cancel := context.WithCancel(ctx)
	var stages sync.WaitGroup
	defer stages.Wait()
	defer cancel()
	src, err := openTar(ctx, &stages, r, nil)
	if err != nil {
		return Packed{}, err
	}
	return packMembers(ctx, src, w, level)
}

func packMembers(ctx context.Context, src members, w io.Writer, level int) (Packed, error) {
	out, err := chunked.NewWriter(w, zstd.EncoderLevelFromZstd(level))
	if err != nil {
		return Packed{}, err
	}
	buf := make([]byte, largeBlock)
	for {
		if ctx.Err() != nil {
			return Packed{}, context.Cause(ctx)
		}
		h, err := src.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Packed{}, err
		}
		if parts, err := split(h.Name); err == nil && len(parts) == 0 && h.Typeflag == tar.TypeDir {
			continue // the tree itself, which says nothing of its members
		}
		// However the same members were named, whoever read them.
		h.Name = strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(h.Linkname, "./")
		}
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
		if h.Typeflag == tar.TypeDir && !strings.HasSuffix(h.Name, "/") {
			h.Name += "/"
		}
		// Holes are zeros, which compress to nothing.
		if isSparse(h) {
			h.Typeflag = tar.TypeReg
		}
		for key := range h.PAXRecords {
			if !strings.HasPrefix(key, xattrKey) {
				delete(h.PAXRecords, key)
			}
		}
		h.Format = tar.FormatPAX
		if err := out.WriteHeader(h); err != nil {
			return Packed{}, blameTable(err)
		}
		if _, err := io.CopyBuffer(out, onlyReader{src}, buf); err != nil {
			return Packed{}, err
		}
	}
	s, err := out.Close()
	if err != nil {
		return Packed{}, err
	}
	return Packed{Size: s.Size, TOC: s.TOCDigest, Members: s.Members}, nil
}

// onlyReader hides what else a source of members is.
type onlyReader struct{ io.Reader }
