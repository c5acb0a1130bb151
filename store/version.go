package store

import (
	"cmp"
	"strings"
)

// CompareVersions orders versions as dpkg does (deb-version(7)): the upstream
// part, then what follows the last hyphen. Runs of digits compare as numbers
// of any length, letters sort before other characters, and "~" sorts before
// the end. Versions that dpkg holds equal, such as 1.0 and 1.00, are ordered
// by their bytes, so that the order is total.
func CompareVersions(a, b string) int {
	aUpstream, aRevision := splitRevision(a)
	bUpstream, bRevision := splitRevision(b)
	return cmp.Or(
		comparePart(aUpstream, bUpstream),
		comparePart(aRevision, bRevision),
		strings.Compare(a, b),
	)
}

func splitRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// comparePart alternates between runs of non-digits, compared by weight, and
// runs of digits, compared as numbers.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if c := cmp.Compare(weight(a), weight(b)); c != 0 {
				return c
			}
			a, b = rest(a), rest(b)
		}
		aNumber, bNumber := number(a), number(b)
		a, b = a[len(aNumber):], b[len(bNumber):]
		aNumber = strings.TrimLeft(aNumber, "0")
		bNumber = strings.TrimLeft(bNumber, "0")
		c := cmp.Or(cmp.Compare(len(aNumber), len(bNumber)), strings.Compare(aNumber, bNumber))
		if c != 0 {
			return c
		}
	}
	return 0
}

// weight is that of the first character: "~" before the end and digits, which
// are one, then letters, then all others.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case isAlpha(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

func rest(s string) string {
	if s == "" || isDigit(s[0]) {
		return s
	}
	return s[1:]
}

func number(s string) string {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return s[:n]
}
