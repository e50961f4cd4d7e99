//go:build !unix

package sqlite

import "os"

// A FileID would be the same for all names of a file. Here [os.SameFile] alone knows it.
type FileID struct{}

// FileIDOf returns the ID of a file, if there is one.
func FileIDOf(os.FileInfo) (FileID, bool) { return FileID{}, false }

// HasOtherNames tells whether other paths may lead to the file.
func HasOtherNames(info os.FileInfo) bool { return info != nil }
