package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// A file is one file of the tree.
type file struct {
	path string // on this machine
	rel  string // below the tree's root, with slashes
	dir  string // of rel, "." at the root
	name string // of rel
}

// A content is what the index knows of a file from reading it.
type content struct {
	size, lines int
	hash        string
}

// Limits that keep trees that were not meant for this from taking all day.
const (
	maxFiles = 20_000
	maxSize  = 4 << 20
	maxPath  = 500 // bytes; as the columns of the table
)

// readTree finds the files of a directory tree. It reads each of them once, so
// that they are in the system's cache for all columns alike.
func readTree(ctx context.Context, dir string, out io.Writer) ([]file, error) {
	if dir == "" {
		var err error
		if dir, err = goSource(); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(out, "reading %s\n", dir)
	var files []file
	var size int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && path == dir:
			return err
		case len(files) == maxFiles:
			return fs.SkipAll
		case err != nil, !fits(d): // such as a directory that may not be read
			return nil
		}
		f, ok := newFile(dir, path)
		if !ok {
			return nil
		}
		if c, err := f.read(); err == nil {
			files = append(files, f)
			size += c.size
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no file to index in %s; name another directory with -dir", dir)
	}
	fmt.Fprintf(out, "%s files, %s MB\n", thousands(len(files)), thousands(size/1e6))
	return files, nil
}

// goSource returns the source directory of the Go installation.
func goSource() (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("asking where Go is installed: %w; name a directory with -dir", err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), "src"), nil
}

func fits(d fs.DirEntry) bool {
	if !d.Type().IsRegular() {
		return false
	}
	info, err := d.Info()
	return err == nil && info.Size() <= maxSize
}

func newFile(root, path string) (file, bool) {
	rel, err := filepath.Rel(root, path)
	if err != nil || len(rel) > maxPath || !utf8.ValidString(rel) {
		return file{}, false
	}
	dir, name := filepath.Split(rel)
	return file{path: path, rel: filepath.ToSlash(rel), dir: filepath.ToSlash(filepath.Clean(dir)), name: name}, true
}

// read reads the file.
func (f file) read() (content, error) {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return content{}, errors.Unwrap(err)
	}
	sum := sha256.Sum256(b)
	return content{size: len(b), lines: bytes.Count(b, []byte("\n")), hash: hex.EncodeToString(sum[:])}, nil
}
