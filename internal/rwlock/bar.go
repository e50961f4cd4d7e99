package rwlock

import "errors"

// ErrBarred is returned for a request for a lock of a table that is barred.
var ErrBarred = errors.New("rwlock: the table is barred")

// Bar keeps new requests from the table, until Unbar has been called as often: they get
// ErrBarred, unless they have Request.Pass. Holds and waits that are there stay.
//
// It is what a lock of all keys takes. Whoever wants that bars the table, asks for a
// common lock exclusively, and for each key in a Snapshot. Others, while they find the
// table barred, ask for the common lock shared besides the key's, with Pass. That is
// enough, because the bar is looked at with the shard locked: a request that has not
// seen it is in a Snapshot that begins after Bar.
func (t *Table) Bar() { t.bars.Add(1) }

// Unbar takes one Bar back.
func (t *Table) Unbar() { t.bars.Add(-1) }

func (t *Table) barred() bool { return t.bars.Load() > 0 }
