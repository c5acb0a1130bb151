package chunked

import (
	"errors"
	"io"
	"testing"
)

func FuzzTable(f *testing.F) {
	contents, rows := sample(f)
	f.Add(tableOf(f, rows))
	f.Add([]byte(`{"version":1,"entries":[{"type":"reg","name":"a","size":5,"digest":"sha256:","offset":1,"endOffset":9}]}`))
	f.Add([]byte(`{"version":1,"x":{"y":[null]},"entries":null}`))
	f.Fuzz(func(t *testing.T, table []byte) {
		b := seal(t, contents, table)
		x, err := openBytes(b, Options{MaxEntries: 1000})
		if err != nil {
			for _, kind := range []error{ErrFormat, ErrTooBig, ErrInexpressible} {
				if errors.Is(err, kind) {
					return
				}
			}
			t.Fatalf("an error of no kind: %v", err)
		}
		var size int64
		for _, e := range x.Entries() {
			if size += e.Size; e.Size < 0 || size < 0 {
				t.Fatalf("%s has %d bytes", e.Name, e.Size)
			}
			r, err := x.Content(e)
			if err != nil {
				t.Fatal(err)
			}
			// A hole of a petabyte is right, and slow.
			n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			if n > e.Size || err == nil && n != min(e.Size, 1<<20) {
				t.Fatalf("%s: %d bytes of %d, %v", e.Name, n, e.Size, err)
			}
		}
		for _, r := range x.Ranges(x.Entries(), ReadOptions{}) {
			if r.Offset < 0 || r.Size <= 0 || r.Offset+r.Size > int64(len(contents)) {
				t.Fatalf("%+v is not in the contents", r)
			}
		}
		x.Compare(untar(t, contents))
	})
}
