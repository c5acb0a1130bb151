package occupancy

import (
	"slices"
	"testing"
	"time"
)

func TestParseMountinfo(t *testing.T) {
	mounts, err := parseMountinfo("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n" +
		"37 36 0:33 /a\\134b//deleted / rw - fuse.x  rw\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []mount{
		{36, 35, device{98, 0}, "/mnt1", "/mnt 2", "ext3", "rw,errors=continue"},
		{37, 36, device{0, 33}, `/a\b`, "/", "fuse.x", "rw"},
	}
	for i, w := range want {
		if *mounts[i] != w {
			t.Errorf("got %+v, want %+v", *mounts[i], w)
		}
	}
	for _, line := range []string{
		"\n", "36 35 98:0 / / rw - ext3 /dev/root", "36 35 98:0 / / rw ext3 /dev/root rw x y",
		"x 35 98:0 / / rw - ext3 /dev/root rw", "36 35 980 / / rw - ext3 /dev/root rw",
		`36 35 98:0 / /\04 rw - ext3 /dev/root rw`, `36 35 98:0 /\999 / rw - ext3 /dev/root rw`,
		"36 35 98:0 / / rw - ext3 /dev/root rw more", "37 36 0:33 / / rw -  fuse.x  rw",
	} {
		if _, err := parseMountinfo(line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func TestParseRecord(t *testing.T) {
	for line, want := range map[string]struct {
		record
		ok, counts bool
	}{
		"1: POSIX  ADVISORY  READ 1234 fd:10:2531452 0 EOF":     {record{"POSIX", false, 1234, device{0xfd, 0x10}, 2531452}, true, true},
		"1: -> POSIX  ADVISORY  WRITE 12 08:01:7 0 EOF":         {record{"POSIX", true, 12, device{8, 1}, 7}, true, false},
		"\t2: OFDLCK ADVISORY  READ -1 00:2a:99 0 EOF":          {record{"OFDLCK", false, -1, device{0, 0x2a}, 99}, true, true},
		"3: FLOCK  ADVISORY  WRITE 5 08:01:7 0 EOF":             {record{"FLOCK", false, 5, device{8, 1}, 7}, true, false},
		"3: POSIX  ADVISORY  WRITE 5 <none>:0 0 EOF":            {},
		"3: POSIX  ADVISORY  WRITE x 08:01:7 0 EOF":             {},
		"3: POSIX  ADVISORY  WRITE 5 7 0 EOF":                   {},
		"3: POSIX":                                              {},
		"4: LEASE  ACTIVE    READ 5 08:01:9 0 EOF":              {record{"LEASE", false, 5, device{8, 1}, 9}, true, false},
		"5: POSIX  ADVISORY  WRITE 5 08:01:nine 0 EOF":          {},
		"6:  -> OFDLCK ADVISORY  WRITE -1 08:01:9 0 EOF":        {record{"OFDLCK", true, -1, device{8, 1}, 9}, true, false},
		"7: POSIX  ADVISORY  READ 1 08:01:18446744073709551615": {record{"POSIX", false, 1, device{8, 1}, 1<<64 - 1}, true, true},
	} {
		r, ok := parseRecord(line)
		if ok != want.ok || ok && (r != want.record || r.counts() != want.counts) {
			t.Errorf("%q: got %+v, %v", line, r, ok)
		}
	}
}

func TestParseStat(t *testing.T) {
	s, err := parseStat("12 (a) Z (b) S 1 12 12 0 -1 4194560 0 0 0 0 1 2 0 0 20 0 3 0 12345 0 0")
	if err != nil || s != (status{'S', false, 3, 123450 * time.Millisecond}) {
		t.Errorf("got %+v, %v", s, err)
	}
	s, err = parseStat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0")
	if err != nil || !s.kernel {
		t.Errorf("got %+v, %v, want a kernel thread", s, err)
	}
	for _, text := range []string{"", "12 (a", "12 (a) S 1 2", "12 (a) S 1 12 12 0 -1 x 0 0 0 0 1 2 0 0 20 0 3 0 12345 0"} {
		if _, err := parseStat(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestLayers(t *testing.T) {
	got := layers(`rw,lowerdir=/a\:b:/c\,d::/data,upperdir=/up,workdir=/work,lowerdir+=/e,datadir+=/f,xino=off`)
	if want := []string{"/a:b", "/c,d", "/data", "/up", "/e", "/f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMappedFile(t *testing.T) {
	addresses, part, ok := mappedFile([]byte("00400000-7f1ec2a28000 r--p 00000000 08:1f 1835041      /usr/li b/x"))
	if !ok {
		t.Fatal("no file")
	}
	if name := link(addresses); name != "map_files/400000-7f1ec2a28000" {
		t.Errorf("its link is %s", name)
	}
	m, ok := parseMapped(string(part))
	if want := (mapped{device{8, 0x1f}, 1835041, "/usr/li b/x"}); !ok || m != want {
		t.Errorf("got %+v, %v, want %+v", m, ok, want)
	}
	for _, line := range []string{"", "a b", "7f-8f rw-p 00000000 00:00 0 ", "7f-8f rw-p 00000000 00:00 0    [heap]"} {
		if _, _, ok := mappedFile([]byte(line)); ok {
			t.Errorf("%q: a file", line)
		}
	}
}

func TestOver(t *testing.T) {
	n := &namespace{}
	for i, point := range []string{"/", "/a", "/a/b", "/a", "/ab"} {
		n.add(&mount{id: uint64(i), point: point})
	}
	for path, want := range map[string][]uint64{"/": {0}, "/a": {3, 1, 0}, "/a/b/c": {2, 3, 1, 0}, "/abc": {0}, "/ab/c": {4, 0}} {
		var got []uint64
		for _, m := range n.over(path) {
			got = append(got, m.id)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

// The index must tell a tree from one whose name it begins with.
func TestIndexFind(t *testing.T) {
	x := &index{byPath: map[device]*pathIndex{{8, 1}: {
		trees:   map[string][]int{"/s/t": {0}, "/s/t2": {1}, "/": {2}, "/s/t/in": {3}},
		lengths: map[int]bool{4: true, 5: true, 1: true, 7: true},
	}}}
	for path, want := range map[string][]place{
		"/s/t":      {{0, "."}, {2, "s/t"}},
		"/s/t/a b":  {{0, "a b"}, {2, "s/t/a b"}},
		"/s/t2/x":   {{1, "x"}, {2, "s/t2/x"}},
		"/s/t/in/x": {{3, "x"}, {0, "in/x"}, {2, "s/t/in/x"}},
		"/s":        {{2, "s"}},
		"/":         {{2, "."}},
	} {
		if got := x.find(device{8, 1}, path); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	if got := x.find(device{8, 2}, "/s/t"); got != nil {
		t.Errorf("on another device: got %v", got)
	}
}

func TestRemote(t *testing.T) {
	for fstype, want := range map[string]bool{"nfs4": true, "fuse.sshfs": true, "virtiofs": true, "ext4": false, "fuse.x": false} {
		if remote(fstype) != want {
			t.Errorf("%s: %v", fstype, !want)
		}
	}
}
