package chaos

import "time"

// What this version of dblocker does not promise yet is left out of the requests,
// or not held against it. Each constant is one such promise.
const (
	// owners: what a request holds is not in its own way. Without it nothing is done
	// beside an open transaction or rows of the same request but the write in a Rows
	// loop, for which the rows are spilled.
	owners = true

	// grace: the lock of a cancelled statement, or of a broken connection, is kept
	// until the server has ended its work. Without it, on engines where the driver
	// itself does not wait for that, no write is cancelled, and sessions are killed
	// only while they do nothing.
	grace = true
)

// graceTime is cancel_grace.
const graceTime = 10 * time.Second
