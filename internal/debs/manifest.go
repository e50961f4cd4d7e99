package debs

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// manifest is the file in a program's directory that lists its files with their sizes. It is written last.
const manifest = "files-of-this-directory"

func writeManifest(root string) error {
	var list strings.Builder
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		fmt.Fprintf(&list, "%d %s\n", info.Size(), rel)
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, manifest), []byte(list.String()), 0o644)
}

// Whole says whether a directory has a program with all its files.
func Whole(root string) bool {
	list, err := os.Open(filepath.Join(root, manifest))
	if err != nil {
		return false
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	n := 0
	for ; lines.Scan(); n++ {
		size, rel, _ := strings.Cut(lines.Text(), " ")
		info, err := os.Lstat(filepath.Join(root, rel))
		if err != nil || strconv.FormatInt(info.Size(), 10) != size {
			return false
		}
	}
	return lines.Err() == nil && n > 0
}
