package outer

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/calmdocs/dblocker"
)

func right(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = db.ExecContext(ctx, "UPDATE t SET v = 1")
	return err
}

func tried(ctx context.Context, db *sql.DB) error {
	sctx, unlock, err := dblocker.TryLock(ctx, db)
	if errors.Is(err, dblocker.ErrLockTimeout) {
		_, err := db.QueryContext(ctx, "SELECT v FROM t")
		return err
	} else {
		db.ExecContext(ctx, "UPDATE t SET v = 1") // want `ctx is the context from outside`
	}
	defer unlock()
	_, err = db.ExecContext(sctx, "UPDATE t SET v = 1")
	return err
}

func endsInFunction(ctx context.Context, db *sql.DB) {
	sctx, unlock, _ := dblocker.Lock(ctx, db)
	func() {
		defer unlock()
		db.ExecContext(sctx, "UPDATE t SET v = 1")
	}()
	db.ExecContext(ctx, "UPDATE t SET v = 1")
}

func endsElsewhere(ctx context.Context, db *sql.DB) {
	sctx, unlock, _ := dblocker.Lock(ctx, db)
	db.ExecContext(sctx, "UPDATE t SET v = 1")
	finish(unlock)
	db.ExecContext(ctx, "UPDATE t SET v = 1")
}

func finish(unlock func()) { unlock() }

func derived(ctx context.Context, db *sql.DB) {
	sctx, unlock, _ := dblocker.Lock(ctx, db)
	defer unlock()
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	db.ExecContext(short, "UPDATE t SET v = 1") // want `short is made of the context from outside`
	within, cancel := context.WithTimeout(sctx, time.Second)
	defer cancel()
	db.ExecContext(within, "UPDATE t SET v = 1")
}

func wrong(ctx context.Context, db *sql.DB) error {
	sctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := db.ExecContext(sctx, "UPDATE t SET v = 1"); err != nil {
		return err
	}
	for range 2 {
		if err := save(ctx, db); err != nil { // want `ctx is the context from outside of the section that Lock has begun, so the call is not inside of it, and may wait for it; use the section's own context, sctx`
			return err
		}
	}
	_, err = db.ExecContext(ctx, "UPDATE t SET v = 1") // want `ctx is the context from outside`
	return err
}

func save(ctx context.Context, db *sql.DB) error { return nil }

func discarded(ctx context.Context, db *sql.DB) error {
	_, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		save(ctx, db) // nothing has begun
		return err
	}
	defer unlock()
	return save(ctx, db) // want `ctx is the context from outside of the section that Lock has begun, so the call is not inside of it, and may wait for it; use the section's own context`
}

func afterwards(ctx context.Context, db, other *sql.DB) error {
	sctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	save(sctx, db)
	save(ctx, other)              // another database
	defer save(ctx, db)           // may run when it has ended
	go func() { save(ctx, db) }() // as may this
	wait(ctx)
	unlock()
	return save(ctx, db)
}

func wait(ctx context.Context) {}

type server struct{ db *sql.DB }

func (s *server) field(ctx context.Context) error {
	sctx, unlock, err := dblocker.RLock(ctx, s.db)
	if err != nil {
		return err
	}
	defer unlock()
	s.db.QueryRowContext(sctx, "SELECT 1")
	s.db.QueryRowContext(ctx, "SELECT 1") // want `ctx is the context from outside`
	return nil
}

func byDo(ctx context.Context, db *sql.DB) error {
	return dblocker.Do(ctx, db, func(inner context.Context) error {
		save(inner, db)
		return save(ctx, db) // want `ctx is the context from outside of the section that Do has begun`
	})
}

func byDoRight(ctx context.Context, db *sql.DB) error {
	return dblocker.RDo(ctx, db, func(ctx context.Context) error { return save(ctx, db) })
}

func newUser(ctx context.Context, db *sql.DB) error {
	sctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	defer unlock()
	save(sctx, db)
	ctx = dblocker.Fork(ctx)
	return save(ctx, db)
}

func inOneLine(ctx context.Context, db *sql.DB) error {
	return dblocker.Do(ctx, db, func(inner context.Context) error { return save(ctx, db) }) // want `ctx is the context from outside of the section that Do has begun`
}

func byEachUser(ctx context.Context, db *sql.DB) error {
	return dblocker.EachUser(ctx, db, func(inner context.Context) error {
		save(inner, db)
		return save(ctx, db) // want `ctx is the context from outside of the section that EachUser has begun`
	})
}
