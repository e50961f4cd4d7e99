package bytelock

import (
	"os"
	"syscall"
)

// createEmpty makes an empty file, which it does not open.
func createEmpty(path string, perm os.FileMode) error {
	return syscall.Mknod(path, syscall.S_IFREG|uint32(perm.Perm()), 0)
}
