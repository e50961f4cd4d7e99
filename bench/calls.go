package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// A call is an operation of the suite "calls".
type call struct {
	name    string
	run     func(ctx context.Context, s *session, id int) error
	updates bool // run raises the counter with the id by one, instead of reading the item
}

var calls = []call{
	{"query", queryText, false},
	{"prepared", queryPrepared, false},
	{"scan", scanItems, false},
	{"exec", execText, true},
	{"tx", transaction, true},
}

// A session is an open database and what the calls send to it.
type session struct {
	db     *sql.DB
	item   string
	stmt   *sql.Stmt // of item
	update string
}

func newSession(ctx context.Context, e *engine, db *sql.DB) (*session, error) {
	s := &session{
		db:     db,
		item:   "SELECT id, n, name FROM items WHERE id = " + e.bind,
		update: "UPDATE counters SET n = n + 1 WHERE id = " + e.bind,
	}
	var err error
	s.stmt, err = db.PrepareContext(ctx, s.item)
	return s, err
}

func (s *session) close() error { return errors.Join(s.stmt.Close(), s.db.Close()) }

func queryText(ctx context.Context, s *session, id int) error {
	return checkItem(s.db.QueryRowContext(ctx, s.item, id), id)
}

func queryPrepared(ctx context.Context, s *session, id int) error {
	return checkItem(s.stmt.QueryRowContext(ctx, id), id)
}

func scanItems(ctx context.Context, s *session, _ int) error {
	rows, err := s.db.QueryContext(ctx, "SELECT id, n, name FROM items ORDER BY id")
	if err != nil {
		return err
	}
	defer rows.Close()
	read := 0
	for rows.Next() {
		read++
		if err := checkItem(rows, read); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil || read == itemCount {
		return err
	}
	return fmt.Errorf("the query gave %d rows, want %d", read, itemCount)
}

func execText(ctx context.Context, s *session, id int) error {
	return checkUpdate(s.db.ExecContext(ctx, s.update, id))
}

func transaction(ctx context.Context, s *session, id int) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := checkUpdate(tx.ExecContext(ctx, s.update, id)); err != nil {
		return err
	}
	return tx.Commit()
}

// checkItem is part of what is measured, for all contenders alike.
func checkItem(row interface{ Scan(...any) error }, id int) error {
	var gotID, n int
	var name string
	if err := row.Scan(&gotID, &n, &name); err != nil {
		return err
	}
	if gotID != id || n != id || name != itemNames[id-1] {
		return fmt.Errorf("item %d was read as %d, %d, %q", id, gotID, n, name)
	}
	return nil
}

func checkUpdate(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("the update changed %d rows, want 1", n)
	}
	return err
}
