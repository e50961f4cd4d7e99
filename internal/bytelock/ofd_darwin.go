package bytelock

// The commands of fcntl(2); package syscall does not have them.
const (
	ofdSetLock     = 90
	ofdSetLockWait = 91
	ofdGetLock     = 92
)
