//go:build linux

package powercut

import (
	"errors"
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker"
)

// isOfSync tells whether an error is one of a sync that has failed.
func isOfSync(err error) bool {
	return errors.Is(err, dblocker.ErrNotDurable) || err != nil && strings.Contains(err.Error(), "disk I/O error")
}

// restore makes writes possible again when a shared sync has failed.
func (w *writer) restore() error {
	var busy, pages, moved int
	c := new(mending)
	w.note(c)
	err := w.db.QueryRowContext(w.ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	w.note(mended{c, err == nil && busy == 0})
	if w.failing && isOfSync(err) {
		return nil // another time
	}
	return err
}

// attach writes to a file that it attaches.
func (w *writer) attach() error {
	conn, err := w.db.Conn(w.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(w.ctx, "ATTACH ? AS other", w.attached); err != nil {
		return err
	}
	k, v := int(w.keys.Add(1)), 1+w.dice.IntN(1e6)
	err = w.claimed(&claim{sets: map[string]int{"other " + keyOf(k): v}}, func() error {
		_, err := conn.ExecContext(w.ctx, strings.ReplaceAll(insertion, "INTO calls", "INTO other.calls"), k, v, w.data(), parts(k))
		return err
	})
	_, detached := conn.ExecContext(w.ctx, "DETACH other")
	return errors.Join(err, detached)
}

// switchJournal leaves WAL mode, and goes back.
func (w *writer) switchJournal() error {
	for _, mode := range []string{"TRUNCATE", "WAL"} {
		var is string
		if err := w.db.QueryRowContext(w.ctx, "PRAGMA journal_mode="+mode).Scan(&is); err != nil {
			return fmt.Errorf("journal_mode=%s: %w", mode, err)
		}
	}
	return nil
}
