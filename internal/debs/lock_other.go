//go:build !unix

package debs

import "context"

// lock is needed only where apt-get is.
func lock(context.Context, string, func()) (func(), error) { return nil, ErrNoApt }
