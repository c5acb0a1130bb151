package manifest

import (
	"cmp"
	"strings"
)

// magic are the characters that make mtree(8) take a name for a pattern.
const magic = "*?["

func isMagic(path string) bool { return strings.ContainsAny(path, magic) }

// compareLines orders the lines of a manifest: the root, then paths without
// magic by their bytes, then the others, part by part, so that a directory
// still precedes what is in it.
func compareLines(a, b string) int {
	aMagic, bMagic := isMagic(a), isMagic(b)
	if !aMagic && !bMagic {
		return comparePaths(a, b)
	}
	if aMagic != bMagic {
		if aMagic {
			return 1
		}
		return -1
	}
	for a != "" && b != "" {
		var aPart, bPart string
		aPart, a, _ = strings.Cut(a, "/")
		bPart, b, _ = strings.Cut(b, "/")
		if c := comparePart(aPart, bPart); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// comparePart puts the name with more literal characters first: what a pattern
// matches has at least as many, as long as no brackets are involved.
func comparePart(a, b string) int {
	if aMagic, bMagic := isMagic(a), isMagic(b); aMagic && bMagic {
		if c := cmp.Compare(literals(b), literals(a)); c != 0 {
			return c
		}
	} else if aMagic {
		return 1
	} else if bMagic {
		return -1
	}
	return strings.Compare(a, b)
}

// literals counts what a name, read as a pattern of fnmatch(3), wants to see
// as it stands. A bracket expression is no literal, a bracket alone is one.
func literals(name string) int {
	n := 0
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '*', '?':
		case '[':
			// The first character of a set may be a closing bracket.
			if end := strings.IndexByte(name[min(i+2, len(name)):], ']'); end >= 0 {
				i += 2 + end
				continue
			}
			n++
		case '\\':
			i++
			n++
		default:
			n++
		}
	}
	return n
}

// comparePaths orders by bytes, the root first.
func comparePaths(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	return strings.Compare(a, b)
}
