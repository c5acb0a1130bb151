package chunked

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// seal makes an archive of contents and a table that says what it likes.
func seal(t testing.TB, contents, table []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	stored := e.EncodeAll(table, nil)
	start := int64(len(contents)) + frameHeaderSize
	b := appendFrame(bytes.Clone(contents), stored)
	return appendFooter(b, footer{span{start, start + int64(len(stored))}, int64(len(table))})
}

func openBytes(b []byte, opt Options) (*Index, error) {
	return Open(bytes.NewReader(b), int64(len(b)), opt)
}

// sample is an archive of a few members, its contents and the rows of its
// table: dir, small, chunked (of 3 chunks), link.
func sample(t testing.TB) (contents []byte, rows []map[string]any) {
	t.Helper()
	big := bytes.Repeat([]byte("0123456789abcdef"), 2*testChunk/16)
	archive, _ := pack(t, []part{
		{header: tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}},
		file("d/small", []byte("small")),
		file("d/big", append(big, 'x')),
		{header: tar.Header{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "small"}},
	})
	f, err := readFooter(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDecoder(bytes.NewReader(archive[f.table.start:f.table.end]))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var table struct{ Entries []map[string]any }
	j := json.NewDecoder(d)
	j.UseNumber()
	if err := j.Decode(&table); err != nil {
		t.Fatal(err)
	}
	return archive[:f.table.start-frameHeaderSize], table.Entries
}

func tableOf(t testing.TB, rows []map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"version": 1, "entries": rows})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	dirRow = iota
	smallRow
	bigRow
	secondRow
	thirdRow
	linkRow
)

// Rows that cannot be true, whatever the archive is.
func TestHostileRows(t *testing.T) {
	contents, rows := sample(t)
	other := "sha256:" + strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		row   int
		field string
		value any
		want  error
	}{
		"offset negative":             {smallRow, "offset", -1, ErrFormat},
		"offset zero":                 {smallRow, "offset", 0, ErrFormat},
		"offset behind the end":       {smallRow, "offset", 1 << 40, ErrFormat},
		"offset overlapping":          {smallRow, "endOffset", len(contents) - 1, ErrFormat},
		"end in the table":            {bigRow, "endOffset", len(contents) + 1, ErrFormat},
		"end huge":                    {bigRow, "endOffset", math.MaxInt64, ErrFormat},
		"end before the start":        {smallRow, "endOffset", 1, ErrFormat},
		"end out of range":            {smallRow, "endOffset", json.Number("9223372036854775808"), ErrFormat},
		"offset a fraction":           {smallRow, "offset", 1.5, ErrFormat},
		"offset a string":             {smallRow, "offset", "1", ErrFormat},
		"size negative":               {smallRow, "size", -1, ErrFormat},
		"sizes overflow":              {smallRow, "size", math.MaxInt64, ErrFormat},
		"size of chunks":              {bigRow, "size", 2 * testChunk, ErrFormat},
		"size beyond the chunks":      {bigRow, "size", 2*testChunk + 2, ErrFormat},
		"empty with a digest":         {smallRow, "size", 0, ErrFormat},
		"no digest":                   {smallRow, "digest", nil, ErrFormat},
		"digest of another kind":      {smallRow, "digest", "sha512:00", ErrFormat},
		"digest too short":            {smallRow, "digest", "sha256:00", ErrFormat},
		"digest not hexadecimal":      {smallRow, "digest", "sha256:" + strings.Repeat("x", 64), ErrFormat},
		"chunk digest malformed":      {secondRow, "chunkDigest", "1", ErrFormat},
		"first chunk digest":          {bigRow, "chunkDigest", "1", ErrFormat},
		"chunk type":                  {secondRow, "chunkType", "estargz", ErrFormat},
		"first chunk without a size":  {bigRow, "chunkSize", 0, ErrFormat},
		"first chunk too big":         {bigRow, "chunkSize", 1 << 40, ErrFormat},
		"first chunk negative":        {bigRow, "chunkSize", -1, ErrFormat},
		"chunk too big":               {secondRow, "chunkSize", 1 << 40, ErrFormat},
		"chunk empty":                 {thirdRow, "chunkSize", 0, ErrFormat},
		"chunk negative":              {thirdRow, "chunkSize", -1, ErrFormat},
		"chunk elsewhere in the file": {secondRow, "chunkOffset", 1, ErrFormat},
		"chunk before its file":       {secondRow, "offset", 1, ErrFormat},
		"chunk behind its file":       {thirdRow, "offset", len(contents), ErrFormat},
		"chunk negative offset":       {thirdRow, "offset", -5, ErrFormat},
		"chunk of another file":       {secondRow, "name", "d/small", ErrFormat},
		"type unknown":                {dirRow, "type", "door", ErrFormat},
		"type missing":                {dirRow, "type", nil, ErrFormat},
		"name missing":                {dirRow, "name", nil, ErrFormat},
		"name with a zero byte":       {smallRow, "name", "d/sm\x00all", ErrFormat},
		"name twice":                  {linkRow, "name", "./d//small", ErrFormat},
		"name a number":               {dirRow, "name", 1, ErrFormat},
		"name lost":                   {smallRow, "name", "caf\ufffd", ErrInexpressible},
		"target lost":                 {linkRow, "linkName", "caf\ufffd", ErrInexpressible},
		"target missing":              {linkRow, "linkName", nil, ErrFormat},
		"target with a zero byte":     {linkRow, "linkName", "\x00", ErrFormat},
		"directory with content":      {dirRow, "offset", 1, ErrFormat},
		"directory with a digest":     {dirRow, "digest", other, ErrFormat},
		"mode negative":               {smallRow, "mode", -1, ErrFormat},
		"owner negative":              {smallRow, "uid", -1, ErrFormat},
		"owner a string":              {smallRow, "gid", "root", ErrFormat},
		"time malformed":              {smallRow, "modtime", "yesterday", ErrFormat},
		"attributes no object":        {smallRow, "xattrs", "user.a", ErrFormat},
		"attribute no base64":         {smallRow, "xattrs", map[string]any{"user.a": "?"}, ErrFormat},
		"attribute no string":         {smallRow, "xattrs", map[string]any{"user.a": 1}, ErrFormat},
		"attribute without a name":    {smallRow, "xattrs", map[string]any{"": ""}, ErrFormat},
		"attribute's name lost":       {smallRow, "xattrs", map[string]any{"user.\ufffd": ""}, ErrInexpressible},
		"row too long":                {smallRow, "linkName", strings.Repeat("x", 3*maxRow), ErrTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			rows := clone(rows)
			if c.value == nil {
				delete(rows[c.row], c.field)
			} else {
				rows[c.row][c.field] = c.value
			}
			_, err := openBytes(seal(t, contents, tableOf(t, rows)), Options{})
			mustBe(t, err, c.want)
		})
	}
}

// clone makes rows that can be changed.
func clone(rows []map[string]any) []map[string]any {
	var copies []map[string]any
	for _, r := range rows {
		copies = append(copies, maps.Clone(r))
	}
	return copies
}

func TestHostileOrder(t *testing.T) {
	contents, rows := sample(t)
	for name, c := range map[string][]int{
		"chunk first":             {secondRow, dirRow},
		"chunk of a directory":    {dirRow, secondRow},
		"chunk behind another":    {bigRow, secondRow, smallRow, thirdRow},
		"chunk twice":             {bigRow, secondRow, secondRow, thirdRow},
		"chunk missing":           {bigRow, secondRow, dirRow},
		"chunk missing at an end": {bigRow, secondRow},
		"duplicate entries":       {dirRow, smallRow, smallRow},
	} {
		t.Run(name, func(t *testing.T) {
			var some []map[string]any
			for _, i := range c {
				some = append(some, rows[i])
			}
			_, err := openBytes(seal(t, contents, tableOf(t, some)), Options{})
			mustBe(t, err, ErrFormat)
			var member *MemberError
			if !errors.As(err, &member) || member.Member != rows[c[0]]["name"] && member.Member != rows[c[1]]["name"] {
				t.Errorf("%v names something else", err)
			}
		})
	}
}

// Any order of members will do, as the format says.
func TestOtherOrder(t *testing.T) {
	contents, rows := sample(t)
	rows = []map[string]any{rows[linkRow], rows[bigRow], rows[secondRow], rows[thirdRow], rows[smallRow], rows[dirRow]}
	x, err := openBytes(seal(t, contents, tableOf(t, rows)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, x)
	if err := x.Compare(untar(t, contents)); err != nil {
		t.Error(err)
	}
}

func readAll(t testing.TB, x *Index) {
	t.Helper()
	if err := drainEntries(x, x.Entries(), ReadOptions{}); err != nil {
		t.Error(err)
	}
}

func drainEntries(x *Index, entries []*Entry, opt ReadOptions) error {
	r := x.Reader(entries, opt)
	for {
		_, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
}

func TestHostileJSON(t *testing.T) {
	const row = `{"type":"dir","name":"d"}`
	for name, c := range map[string]struct {
		table string
		want  error
	}{
		"empty":               {``, ErrFormat},
		"no object":           {`[]`, ErrFormat},
		"no entries":          {`{"version":1}`, ErrFormat},
		"no version":          {`{"entries":[]}`, ErrFormat},
		"another version":     {`{"version":2,"entries":[]}`, ErrFormat},
		"version no number":   {`{"version":"1","entries":[]}`, ErrFormat},
		"entries no array":    {`{"version":1,"entries":{}}`, ErrFormat},
		"entries twice":       {`{"version":1,"entries":[],"entries":[]}`, ErrFormat},
		"entry no object":     {`{"version":1,"entries":[1]}`, ErrFormat},
		"key twice":           {`{"version":1,"entries":[{"type":"dir","name":"d","name":"e"}]}`, ErrFormat},
		"attribute twice":     {`{"version":1,"entries":[{"type":"dir","name":"d","xattrs":{"a":"","a":""}}]}`, ErrFormat},
		"truncated":           {`{"version":1,"entries":[` + row, ErrFormat},
		"truncated in a key":  {`{"version":1,"entries":[{"ty`, ErrFormat},
		"truncated attribute": {`{"version":1,"entries":[{"xattrs":{"a"`, ErrFormat},
		"comma":               {`{"version":1,"entries":[` + row + `,]}`, ErrFormat},
		"trailing data":       {`{"version":1,"entries":[]}{}`, ErrFormat},
		"trailing garbage":    {`{"version":1,"entries":[]}x`, ErrFormat},
		"not UTF-8":           {"{\"version\":1,\"entries\":[{\"type\":\"dir\",\"name\":\"\xff\"}]}", ErrInexpressible},
		"lone surrogate":      {`{"version":1,"entries":[{"type":"dir","name":"\ud800"}]}`, ErrInexpressible},
		"deep":                {`{"version":1,"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `,"entries":[]}`, ErrFormat},
		"deep in a row":       {`{"version":1,"entries":[{"x":` + strings.Repeat(`{"x":`, 1000000), ErrFormat},
		"number a container":  {`{"version":1,"entries":[{"type":"dir","name":"d","mode":[1]}]}`, ErrFormat},
		"skipped too long":    {`{"version":1,"x":"` + strings.Repeat("x", 3*maxRow) + `","entries":[]}`, ErrTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openBytes(seal(t, []byte("contents"), []byte(c.table)), Options{})
			mustBe(t, err, c.want)
		})
	}
	for name, table := range map[string]string{
		"unknown keys": `{"x":[{"y":[1,null,"z"]}],"entries":[{"type":"dir","name":"d","x":{"y":[]},"xattrs":null}],"version":1,"tarSplitDigest":""}`,
		"everything":   `{"version":1,"entries":[ { "x" : [ true , {"a\"}" : [ ] } , -1.5e3 ] , "type" : "dir" , "y":false,"name":"d\u0041\"" , "mode" : null} ]}`,
		"null":         `{"version":1,"entries":null}`,
		"spaces":       " {\"version\" : 1 , \"entries\" : [ ] } \n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := openBytes(seal(t, []byte("contents"), []byte(table)), Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHostileContent(t *testing.T) {
	contents, rows := sample(t)
	for name, c := range map[string]struct {
		row    int
		change func(row map[string]any)
		want   error
	}{
		"digest wrong":          {smallRow, set("digest", formatDigest(sha256.Sum256(nil))), ErrDigest},
		"digest of chunks":      {bigRow, set("digest", formatDigest(sha256.Sum256(nil))), ErrDigest},
		"digest of first chunk": {bigRow, set("chunkDigest", formatDigest(sha256.Sum256(nil))), ErrDigest},
		"digest of last chunk":  {thirdRow, set("chunkDigest", formatDigest(sha256.Sum256(nil))), ErrDigest},
		"size too small":        {smallRow, set("size", 4), ErrFormat},
		"size too big":          {smallRow, set("size", 6), ErrFormat},
		"size huge":             {smallRow, set("size", int64(1<<50)), ErrFormat},
		"zeros that are none":   {thirdRow, set("chunkType", zeroChunk), ErrDigest},
		"not at a frame":        {smallRow, add("offset", 1), ErrFormat},
		"frame cut off":         {smallRow, add("endOffset", -1), ErrFormat},
		"behind the frame":      {smallRow, add("endOffset", 1), ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			rows := clone(rows)
			c.change(rows[c.row])
			x, err := openBytes(seal(t, contents, tableOf(t, rows)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			entry := map[int]int{smallRow: 1, bigRow: 2, thirdRow: 2}[c.row]
			err = drainEntries(x, x.Entries(), ReadOptions{})
			mustBe(t, err, c.want)
			var member *MemberError
			if !errors.As(err, &member) || member.Member != x.Entries()[entry].Name {
				t.Errorf("%v does not name the member", err)
			}
			// Nor does one get it who asks for just as many bytes.
			r, err := x.Content(x.Entries()[entry])
			if err != nil {
				t.Fatal(err)
			}
			if _, err = io.CopyN(io.Discard, r, x.Entries()[entry].Size); err == nil {
				t.Error("all bytes came")
			}
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("then %v", again)
			}
		})
	}
}

func set(field string, value any) func(map[string]any) {
	return func(row map[string]any) { row[field] = value }
}

func add(field string, n int64) func(map[string]any) {
	return func(row map[string]any) {
		old, _ := row[field].(json.Number).Int64()
		row[field] = old + n
	}
}

func TestHostileFooter(t *testing.T) {
	contents, rows := sample(t)
	good := seal(t, contents, tableOf(t, rows))
	data := len(good) - footerSize
	put := func(at int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[data+at:], v)
			return b
		}
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"none":                       {func(b []byte) []byte { return b[:data-frameHeaderSize] }, ErrNotChunked},
		"truncated":                  {func(b []byte) []byte { return b[:len(b)-1] }, ErrNotChunked},
		"trailing data":              {func(b []byte) []byte { return append(b, 0) }, ErrNotChunked},
		"empty file":                 {func(b []byte) []byte { return nil }, ErrNotChunked},
		"alone":                      {func(b []byte) []byte { return b[data-frameHeaderSize:] }, ErrFormat},
		"of another size":            {func(b []byte) []byte { b[data-4] = 56; return b }, ErrNotChunked},
		"in no frame":                {func(b []byte) []byte { b[data-8] = 0; return b }, ErrNotChunked},
		"table of another type":      {put(24, 2), ErrNotChunked},
		"table before the beginning": {put(0, 7), ErrFormat},
		"table at a wrong place":     {put(0, 8), ErrFormat},
		"table in the footer":        {put(0, uint64(data-frameHeaderSize+5)), ErrFormat},
		"table behind the end":       {put(0, 1<<40), ErrFormat},
		"offset negative":            {put(0, math.MaxUint64), ErrFormat},
		"size negative":              {put(8, math.MaxUint64), ErrFormat},
		"size and offset overflow":   {put(8, math.MaxUint64-8), ErrFormat},
		"size huge":                  {put(16, 1<<40), ErrTooBig},
		"decompressed negative":      {put(16, math.MaxUint64), ErrFormat},
		"decompressed shorter":       {put(16, 10), ErrFormat},
		"decompressed longer":        {put(16, 100000), ErrFormat},
		"table in no frame": {func(b []byte) []byte {
			b[len(contents)]++
			b[len(contents)+2] = 0
			return b
		}, ErrFormat},
		"table in a frame of another size": {func(b []byte) []byte { b[len(contents)+4]++; return b }, ErrFormat},
		"table not compressed":             {func(b []byte) []byte { b[len(contents)+8]++; return b }, ErrFormat},
		"table damaged":                    {func(b []byte) []byte { clear(b[len(contents)+30 : len(contents)+40]); return b }, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openBytes(c.change(bytes.Clone(good)), Options{})
			mustBe(t, err, c.want)
		})
	}
}

func TestLimits(t *testing.T) {
	contents, rows := sample(t)
	b := seal(t, contents, tableOf(t, rows))
	for _, c := range []struct {
		opt  Options
		want error
	}{
		{Options{MaxStored: 10}, ErrTooBig},
		{Options{MaxTable: 10}, ErrTooBig},
		{Options{MaxEntries: len(rows) - 1}, ErrTooBig},
		{Options{MaxEntries: len(rows)}, nil},
	} {
		if _, err := openBytes(b, c.opt); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.opt, err)
		}
	}
}

// A table whose digest is another one is not even decompressed.
func TestDigestFirst(t *testing.T) {
	b := seal(t, []byte("contents"), []byte(`{"no":"table"}`))
	_, err := openBytes(b, Options{Digest: new(Digest)})
	mustBe(t, err, ErrDigest)
}

func TestMemberErrorQuotes(t *testing.T) {
	err := &MemberError{"a\x1b[31m", ErrInexpressible}
	if got := fmt.Sprint(err); strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}
