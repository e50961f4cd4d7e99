package bytelock

// The commands of fcntl(2); package syscall does not have them.
const (
	ofdGetLock     = 36
	ofdSetLock     = 37
	ofdSetLockWait = 38
)
