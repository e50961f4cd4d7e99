package dblocker

import "github.com/calmdocs/dblocker/internal/lost"

// A lostServer is a pool as a [lost.Server].
type lostServer pool

func (p *lostServer) Reserve() lost.Reserved { return p.connector.Reserve() }
func (p *lostServer) Retain()                { (*pool)(p).retain() }
func (p *lostServer) Release()               { (*pool)(p).release() }
