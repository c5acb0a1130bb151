package archive

import (
	"fmt"
	"strings"
)

// A shape says what of an archive is files/.
//
//   - The top level has a directory files and a regular file metadata, or
//     files alone: these are kept. What is beside them is not.
//   - The top level is one directory that has both: the same, one down.
//   - Anything else is a root file system or a merged /usr as it is, and
//     becomes files/.
type shape struct {
	dir      []string // where files and metadata are
	bare     bool     // neither is there: the tree itself is files/
	files    *node
	metadata *node // or nil
}

func shapeOf(root *node) (shape, error) {
	files, metadata, err := pair(root, nil)
	if err != nil {
		return shape{}, err
	}
	if files != nil && (metadata != nil || len(root.children) == 1) {
		return shape{files: files, metadata: metadata}, nil
	}
	if len(root.children) == 1 {
		for name, only := range root.children {
			files, metadata, err := pair(only, []string{name})
			if err != nil {
				return shape{}, err
			}
			if files != nil && metadata != nil {
				return shape{dir: []string{name}, files: files, metadata: metadata}, nil
			}
		}
	}
	return shape{bare: true, files: root}, nil
}

// pair finds files and metadata in a directory. It refuses one of them in the
// company of a thing that has the other's name but not its type, and a thing
// named files that is all there is.
func pair(dir *node, parts []string) (files, metadata *node, err error) {
	refuse := func(name, why string) error {
		return &MemberError{strings.Join(append(parts, name), "/"), fmt.Errorf("%w: %s", ErrFormat, why)}
	}
	files, metadata = dir.children[filesName], dir.children[metadataName]
	if files != nil && files.inode.kind != directory {
		if metadata != nil && metadata.inode.kind == regular || parts == nil && len(dir.children) == 1 {
			return nil, nil, refuse(filesName, "no directory")
		}
		files = nil
	}
	if metadata != nil && metadata.inode.kind != regular {
		if files != nil && metadata.inode.kind != directory {
			return nil, nil, refuse(metadataName, "no regular file")
		}
		metadata = nil
	}
	return files, metadata, nil
}
