package userid

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files are those of users, at the paths that a pattern gives.
type Files struct {
	Pattern string // a path
	Mark    string // in the pattern, once or more: it stands for the name of the user
}

// Of returns the path of a user's file.
func (f Files) Of(user string) string { return strings.ReplaceAll(f.Pattern, f.Mark, Encode(user)) }

// IsThere tells whether a user has a file.
func (f Files) IsThere(user string) (bool, error) {
	info, err := os.Stat(f.Of(user))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular(), err
}

// Users returns all who have a file, in the order of their names. Where there is no directory yet there is nobody.
func (f Files) Users() (users []string, err error) {
	dir, element := f.first()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		user, ok := f.userOf(e.Name(), element)
		if !ok {
			continue
		}
		there, err := f.IsThere(user)
		if err != nil {
			return nil, err
		}
		if there {
			users = append(users, user)
		}
	}
	return users, nil
}

// first returns the first element of the pattern that has the mark, and the directory that it is in.
func (f Files) first() (dir, element string) {
	dir, element = filepath.Split(f.Pattern)
	for strings.Contains(dir, f.Mark) {
		dir, element = filepath.Split(filepath.Clean(dir))
	}
	return filepath.Clean(dir), element
}

// userOf returns the user for whom an element of the pattern is the name.
func (f Files) userOf(name, element string) (user string, ok bool) {
	before, _, _ := strings.Cut(element, f.Mark)
	marks := strings.Count(element, f.Mark)
	length := len(name) - (len(element) - marks*len(f.Mark)) // of the name of the user, as often
	if length <= 0 || length%marks != 0 || !strings.HasPrefix(name, before) {
		return "", false
	}
	own := name[len(before):][:length/marks]
	if strings.ReplaceAll(element, f.Mark, own) != name {
		return "", false
	}
	return Decode(own)
}

// Dirs returns the directories of a user that are the user's alone, the innermost first.
func (f Files) Dirs(user string) (dirs []string) {
	for dir := filepath.Dir(f.Pattern); strings.Contains(dir, f.Mark); dir = filepath.Dir(dir) {
		dirs = append(dirs, strings.ReplaceAll(dir, f.Mark, Encode(user)))
	}
	return dirs
}
