package chunked

import (
	"fmt"
	"strings"
	"testing"
)

// What a table repeats takes next to nothing in the archive, and must not take
// much memory.
func TestTableBombs(t *testing.T) {
	rows := func(n int, row string) string {
		var b strings.Builder
		b.WriteString(`{"version":1,"entries":[`)
		for i := range n {
			fmt.Fprintf(&b, row+",", i)
		}
		return strings.TrimSuffix(b.String(), ",") + "]}"
	}
	long := strings.Repeat("x", 900<<10)
	keys := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"version":1,"entries":[]`)
		for i := range n {
			fmt.Fprintf(&b, `,"%d":0`, i)
		}
		return b.String() + "}"
	}
	const enough = maxText/(900<<10) + 1
	for name, c := range map[string]struct {
		table string
		want  error
	}{
		"names":      {rows(enough, `{"type":"dir","name":"%d`+long+`"}`), ErrTooBig},
		"targets":    {rows(enough, `{"type":"symlink","name":"%d","linkName":"`+long+`"}`), ErrTooBig},
		"attributes": {rows(maxText/(48<<10)+1, `{"type":"dir","name":"%d","xattrs":{"user.a":"`+strings.Repeat("AAAA", 16<<10)+`"}}`), ErrTooBig},
		"keys":       {keys(maxKeys), ErrTooBig},
		"few keys":   {keys(maxKeys - 2), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := seal(t, nil, []byte(c.table))
			if len(b) > 200<<10 {
				t.Errorf("an archive of %d bytes is no bomb", len(b))
			}
			_, err := openBytes(b, Options{})
			mustBe(t, err, c.want)
		})
	}
}
