package source

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// readSums reads a file as sha256sum(1) writes it: by name, the digests as
// "sha256:HEX".
func readSums(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no digests: %w", ErrDigest, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the digests: %w", err)
	}
	defer f.Close()
	sums, err := parseSums(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return sums, nil
}

// parseSums reads lines of a digest, a space, a space or "*", and a path.
// GNU's sha256sum puts a backslash before a line whose name has escapes; other
// programs end lines with CR LF. A name that is listed with two digests is an
// error, because nothing tells which one is meant.
func parseSums(r io.Reader) (map[string]string, error) {
	sums := make(map[string]string)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		line, escaped := strings.CutPrefix(line, `\`)
		sum, name, ok := strings.Cut(line, " ")
		if ok && name != "" && (name[0] == ' ' || name[0] == '*') {
			name = name[1:]
		}
		raw, err := hex.DecodeString(sum)
		if err != nil || len(raw) != 32 || name == "" {
			return nil, fmt.Errorf("%w: line %d is none of sha256sum", ErrDigest, n)
		}
		if escaped {
			name = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(name)
		}
		name = path.Clean(name)
		value := "sha256:" + hex.EncodeToString(raw)
		if old, twice := sums[name]; twice && old != value {
			return nil, fmt.Errorf("%w: line %d gives %q another digest than a line before", ErrDigest, n, name)
		}
		sums[name] = value
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDigest, err)
	}
	return sums, nil
}
