package chunked

import (
	"archive/tar"
	"encoding/json"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The types of rows. A file is a row of typeReg and, if it has more than one
// chunk, a row of typeChunk for each but the first, right behind it.
const (
	typeReg   = "reg"
	typeChunk = "chunk"
	zeroChunk = "zeros"
)

var typeNames = map[byte]string{
	tar.TypeReg: typeReg, tar.TypeLink: "hardlink", tar.TypeChar: "char", tar.TypeBlock: "block",
	tar.TypeDir: "dir", tar.TypeFifo: "fifo", tar.TypeSymlink: "symlink",
}

// A row is one element of the table's "entries".
type row struct {
	Type        string            `json:"type"`
	Name        string            `json:"name"`
	Linkname    string            `json:"linkName,omitempty"`
	Mode        int64             `json:"mode,omitempty"`
	Size        int64             `json:"size,omitempty"`
	UID         int               `json:"uid,omitempty"`
	GID         int               `json:"gid,omitempty"`
	ModTime     string            `json:"modtime,omitempty"`
	AccessTime  string            `json:"accesstime,omitempty"`
	ChangeTime  string            `json:"changetime,omitempty"`
	Devmajor    int64             `json:"devMajor,omitempty"`
	Devminor    int64             `json:"devMinor,omitempty"`
	Xattrs      map[string]string `json:"xattrs,omitempty"` // base64
	Digest      string            `json:"digest,omitempty"` // of the whole file; none for an empty one
	Offset      int64             `json:"offset,omitempty"`
	EndOffset   int64             `json:"endOffset,omitempty"`
	ChunkSize   int64             `json:"chunkSize,omitempty"`
	ChunkOffset int64             `json:"chunkOffset,omitempty"` // in the file
	ChunkDigest string            `json:"chunkDigest,omitempty"`
	ChunkType   string            `json:"chunkType,omitempty"`
}

func timeOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

// writeTable writes the table, compressed, and returns its size before.
func writeTable(w io.Writer, level zstd.EncoderLevel, members []*member) (size int64, err error) {
	encoder, err := zstd.NewWriter(w, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, err
	}
	defer encoder.Close()
	write := func(b []byte) {
		if err == nil {
			_, err = encoder.Write(b)
			size += int64(len(b))
		}
	}
	write([]byte(`{"version":1,"entries":[`))
	first := true
	for _, m := range members {
		for _, r := range m.rows() {
			if !first {
				write([]byte(","))
			}
			first = false
			b, bad := json.Marshal(r)
			if bad != nil {
				return size, bad
			}
			write(b)
		}
	}
	write([]byte(`]}`))
	if err != nil {
		return size, err
	}
	return size, encoder.Close()
}

// rows makes the rows of a member whose frames are written.
func (m *member) rows() []row {
	rows := []row{m.row}
	for i, c := range m.chunks {
		if i > 0 {
			rows = append(rows, row{Type: typeChunk, Name: m.row.Name})
		}
		r := &rows[i]
		r.Offset = c.stored.start
		if len(m.chunks) == 1 {
			break
		}
		r.ChunkSize = int64(c.size)
		r.ChunkDigest = formatDigest(c.digest)
		if i > 0 {
			r.ChunkOffset = rows[i-1].ChunkOffset + rows[i-1].ChunkSize
		}
		if c.zeros {
			r.ChunkType = zeroChunk
		}
	}
	if n := len(m.chunks); n > 0 {
		rows[0].EndOffset = m.chunks[n-1].stored.end
	}
	return rows
}

func allZeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
