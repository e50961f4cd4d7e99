package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker"
)

// A store is an SQLite database as the workloads of the suite "load" see it: one
// counter for each user.
type store interface {
	create(ctx context.Context, statements []string) error
	read(ctx context.Context, user int) error   // the user's counter
	update(ctx context.Context, user int) error // raises it by one, in one statement
	modify(ctx context.Context, user int) error // the same in a transaction: reads it, then writes it
	sum(ctx context.Context) (int, error)       // of all counters
	close() error
}

// A way is a contender of the suite "load": a way to open an SQLite file. doc.go
// tells what each of them is.
type way struct {
	name string
	open func(path string) (store, error)
}

// tuned are the settings that are best for the bare driver, as parameters of its
// DSN.
const tuned = "?_journal_mode=WAL&_txlock=immediate&_busy_timeout=5000"

var ways = []way{
	{"default", func(path string) (store, error) { return openSQL("sqlite3", path, func(*sql.DB) {}) }},
	{baselineWay, func(path string) (store, error) { return openSQL("sqlite3", "file:"+path+tuned, idle) }},
	{"tuned+cache", func(path string) (store, error) {
		return openSQL("sqlite3", "file:"+path+tuned+"&_stmt_cache_size=64", idle)
	}},
	{"one-conn", func(path string) (store, error) { return openSQL("sqlite3", "file:"+path+tuned, single) }},
	{"two-pools", openTwoPools},
	{"zombiezen", openZombiezen},
	{"dblocker", openDBLocker},
	{"dblocker-alone", func(path string) (store, error) { return openDBLockerWith("dblocker", "sqlite3?combine=off:"+path) }},
	{"full", func(path string) (store, error) {
		return openSQL("sqlite3", "file:"+path+tuned+"&_synchronous=FULL", idle)
	}},
	{"dblocker-full", func(path string) (store, error) {
		return openDBLockerWith("sqlite3-dblocker", "file:"+path+"?_synchronous=FULL")
	}},
	{"dblocker-group", func(path string) (store, error) {
		return openDBLockerWith("dblocker", "sqlite3?durability=group:"+path)
	}},
}

// baselineWay is what the others' throughput is compared with.
const baselineWay = "tuned"

func idle(db *sql.DB)   { db.SetMaxIdleConns(maxIdle) }
func single(db *sql.DB) { db.SetMaxOpenConns(1) }

// A sqlStore works through database/sql.
type sqlStore struct {
	reads, writes *sql.DB // may be the same
	withUser      func(ctx context.Context, user any) context.Context
}

func noUser(ctx context.Context, _ any) context.Context { return ctx }

func openSQL(driver, dsn string, limit func(*sql.DB)) (store, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	limit(db)
	return &sqlStore{db, db, noUser}, nil
}

func openDBLocker(path string) (store, error) { return openDBLockerWith("sqlite3-dblocker", path) }

func openDBLockerWith(driver, dsn string) (store, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	return &sqlStore{db, db, dblocker.WithUser}, nil
}

func openTwoPools(path string) (store, error) {
	writes, err := sql.Open("sqlite3", "file:"+path+tuned)
	if err != nil {
		return nil, err
	}
	single(writes)
	reads, err := sql.Open("sqlite3", "file:"+path+tuned)
	if err != nil {
		return nil, errors.Join(err, writes.Close())
	}
	reads.SetMaxOpenConns(maxIdle)
	idle(reads)
	return &sqlStore{reads, writes, noUser}, nil
}

func (s *sqlStore) create(ctx context.Context, statements []string) error {
	return execAll(ctx, s.writes, statements)
}

func (s *sqlStore) read(ctx context.Context, user int) error {
	ctx = s.withUser(ctx, user)
	var id, n int
	err := s.reads.QueryRowContext(ctx, "SELECT id, n FROM counters WHERE id = ?", user).Scan(&id, &n)
	return checkCounter(err, id, user)
}

func (s *sqlStore) update(ctx context.Context, user int) error {
	ctx = s.withUser(ctx, user)
	return checkUpdate(s.writes.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = ?", user))
}

func (s *sqlStore) modify(ctx context.Context, user int) error {
	ctx = s.withUser(ctx, user)
	tx, err := s.writes.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var id, n int
	err = tx.QueryRowContext(ctx, "SELECT id, n FROM counters WHERE id = ?", user).Scan(&id, &n)
	if err := checkCounter(err, id, user); err != nil {
		return err
	}
	if err := checkUpdate(tx.ExecContext(ctx, "UPDATE counters SET n = ? WHERE id = ?", n+1, user)); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *sqlStore) sum(ctx context.Context) (int, error) { return sumCounters(ctx, s.reads) }

func (s *sqlStore) close() error {
	if s.reads == s.writes {
		return s.writes.Close()
	}
	return errors.Join(s.reads.Close(), s.writes.Close())
}

// checkCounter checks that a read found the counter that it asked for.
func checkCounter(err error, id, user int) error {
	if err == nil && id != user {
		return fmt.Errorf("the counter of user %d was read as that of %d", user, id)
	}
	return err
}
