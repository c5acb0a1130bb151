package source

import "strings"

// suffixes are those of archives, the fastest to unpack first.
var suffixes = []string{
	".tar.zst", ".tzst", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar",
}

// IsArchive tells whether a file name has an archive's suffix.
func IsArchive(base string) bool {
	_, rank := cutSuffix(base)
	return rank < len(suffixes)
}

// cutSuffix takes an archive's suffix off, and returns its place among the
// suffixes: len(suffixes) if there is none.
func cutSuffix(base string) (stem string, rank int) {
	for i, s := range suffixes {
		if stem, ok := strings.CutSuffix(base, s); ok && stem != "" {
			return stem, i
		}
	}
	return base, len(suffixes)
}

// SplitName takes NAME-VERSION.tar.* apart, at the first "-" before a digit.
func SplitName(base string) (name, version string, ok bool) {
	stem, rank := cutSuffix(base)
	if rank == len(suffixes) {
		return "", "", false
	}
	return splitStem(stem)
}

func splitStem(stem string) (name, version string, ok bool) {
	for i := 1; i+1 < len(stem); i++ {
		if stem[i] == '-' && '0' <= stem[i+1] && stem[i+1] <= '9' {
			return stem[:i], stem[i+1:], true
		}
	}
	return "", "", false
}
