//go:build !unix

package dblocker

import "os"

// A fileID would be the same for all names of a file. Here [os.SameFile] alone knows it.
type fileID struct{}

func fileIDOf(os.FileInfo) (fileID, bool) { return fileID{}, false }

func hasOtherNames(info os.FileInfo) bool { return info != nil }
