package unlock

import (
	"context"
	"database/sql"
	"errors"
	"log"
	"os"
	"testing"

	"github.com/calmdocs/dblocker"
)

var errBusy = errors.New("busy")

func deferred(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	defer unlock()
	return db.PingContext(ctx)
}

func deferredBefore(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.Lock(ctx, db)
	defer unlock()
	if err != nil {
		return err
	}
	return db.PingContext(ctx)
}

func discarded(ctx context.Context, db *sql.DB) error {
	ctx, _, err := dblocker.Lock(ctx, db) // want `the function that ends what Lock begins is discarded`
	if err != nil {
		return err
	}
	return db.PingContext(ctx)
}

func ignored(ctx context.Context, db *sql.DB) {
	dblocker.Lock(ctx, db) // want `the function that ends what Lock begins is discarded`
}

func onOneWay(ctx context.Context, db *sql.DB, early bool) error {
	ctx, unlock, err := dblocker.RLock(ctx, db) // want `unlock, which ends what RLock begins, is not used on the way to line 52`
	if err != nil {
		return err
	}
	if early {
		return nil
	}
	unlock()
	return nil
}

func otherError(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.Lock(ctx, db) // want `unlock, which ends what Lock begins, is not used on the way to line 65`
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "UPDATE t SET v = 1")
	if err != nil {
		return err
	}
	unlock()
	return nil
}

func inCondition(ctx context.Context, db *sql.DB) error {
	if ctx, unlock, err := dblocker.Lock(ctx, db); err == nil {
		defer unlock()
		return db.PingContext(ctx)
	} else if errors.Is(err, errBusy) {
		return nil
	} else {
		return err
	}
}

func bySwitch(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.TryLock(ctx, db)
	switch {
	case errors.Is(err, errBusy):
		return nil
	case err != nil:
		return err
	}
	defer unlock()
	return db.PingContext(ctx)
}

func askedElsewhere(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.TryLock(ctx, db)
	if isBusy(err) {
		return nil
	}
	defer unlock()
	return db.PingContext(ctx)
}

func isBusy(err error) bool { return err != nil }

func inLoop(ctx context.Context, db *sql.DB, skip func() bool) {
	for range 3 {
		_, unlock, err := dblocker.Lock(ctx, db) // want `unlock, which ends what Lock begins, is not used on the way to line`
		if err != nil {
			continue
		}
		if skip() {
			continue
		}
		unlock()
	}
}

func returned(ctx context.Context, db *sql.DB) (context.Context, func(), error) {
	ctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return nil, nil, err
	}
	return ctx, unlock, nil
}

func passedOn(ctx context.Context, db *sql.DB) (context.Context, func(), error) {
	return dblocker.Lock(ctx, db)
}

func namedResult(ctx context.Context, db *sql.DB) (unlock func(), err error) {
	_, unlock, err = dblocker.Lock(ctx, db)
	return
}

type job struct{ end func() }

func stored(ctx context.Context, db *sql.DB, j *job) (err error) {
	_, j.end, err = dblocker.Lock(ctx, db)
	return err
}

func storedLater(ctx context.Context, db *sql.DB, j *job) error {
	_, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	j.end = unlock
	return nil
}

func inClosure(ctx context.Context, db *sql.DB, cleanup func(func())) error {
	_, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	cleanup(func() { unlock() })
	return nil
}

func ends(ctx context.Context, db *sql.DB) {
	ctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		log.Fatal(err)
	}
	if db.PingContext(ctx) != nil {
		os.Exit(1)
	}
	unlock()
}

func inTest(t *testing.T, ctx context.Context, db *sql.DB) {
	_, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func ofStore(ctx context.Context, store *dblocker.Store) error {
	_, db, err := store.RWGetDB("ann", ctx, "x") // want `the function that ends what RWGetDB begins is discarded`
	if err != nil {
		return err
	}
	return db.Ping()
}

func ofStoreOnOneWay(ctx context.Context, store *dblocker.Store) error {
	db, release, err := store.Write(ctx, "ann", "x") // want `release, which ends what Write begins, is not used on the way to line`
	if err != nil {
		return err
	}
	if err := db.Ping(); err != nil {
		return err
	}
	release()
	return nil
}

func ofStoreRight(ctx context.Context, store *dblocker.Store) error {
	cancel, db, err := store.ReadGetDB("ann", ctx, "x")
	if err != nil {
		return err
	}
	defer cancel()
	return db.Ping()
}

func declared(ctx context.Context, db *sql.DB) error {
	var _, unlock, err = dblocker.LockUsers(ctx, db, 1, 2)
	if err != nil {
		return err
	}
	defer unlock()
	return nil
}

func wrapped(ctx context.Context, db *sql.DB) error {
	_, unlock, err := dblocker.Lock(ctx, db)
	if e := wrap(err); e != nil {
		return e
	}
	unlock()
	return nil
}

func wrappedInPlace(ctx context.Context, db *sql.DB) error {
	_, unlock, err := dblocker.Lock(ctx, db)
	if err = wrap(err); err != nil {
		return err
	}
	defer unlock()
	return nil
}

func asked(ctx context.Context, db *sql.DB) error {
	_, unlock, err := dblocker.TryLock(ctx, db)
	busy := err != nil
	if busy {
		return errBusy
	}
	defer unlock()
	return nil
}

func wrap(err error) error { return err }

func overwritten(ctx context.Context, db, other *sql.DB) error {
	_, unlock, err := dblocker.Lock(ctx, db) // want `unlock, which ends what Lock begins, is not used on the way to line 252`
	if err != nil {
		return err
	}
	_, unlock, err = dblocker.Lock(ctx, other)
	if err != nil {
		return err
	}
	defer unlock()
	return nil
}

func again(ctx context.Context, db *sql.DB) (err error) {
	var unlock func()
	for range 3 {
		if _, unlock, err = dblocker.TryLock(ctx, db); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	defer unlock()
	return nil
}

func both(ctx context.Context, db, other *sql.DB) error {
	_, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	first := unlock
	_, unlock, err = dblocker.Lock(ctx, other)
	defer first()
	if err != nil {
		return err
	}
	defer unlock()
	return nil
}
