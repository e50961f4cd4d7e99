package main

import (
	"context"
	"database/sql"
	"net/http"

	"github.com/calmdocs/dblocker"
)

type server struct{ db *sql.DB }

func (s *server) handle(w http.ResponseWriter, r *http.Request) {
	s.db.Exec("UPDATE t SET v = 1")                              // nocontext
	s.db.ExecContext(context.Background(), "UPDATE t SET v = 1") // background
	ctx := dblocker.WithUser(r.Context(), "ann")
	other := dblocker.WithUser(ctx, "ben")                      // user
	go func() { s.db.ExecContext(ctx, "UPDATE t SET v = 1") }() // fork
	s.write(other)
	s.read(ctx)
}

func (s *server) write(ctx context.Context) error {
	sctx, unlock, err := dblocker.Lock(ctx, s.db)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.db.ExecContext(sctx, "UPDATE t SET v = 1"); err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, "UPDATE t SET v = 2") // outer
	return err
}

func (s *server) read(ctx context.Context) error {
	ctx, _, err := dblocker.RLock(ctx, s.db) // unlock
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, "UPDATE t SET v = 1") // shared
	return err
}

func main() {
	db, err := sql.Open("dblocker", "sqlite3:app.db?lock_timeout=5s") // dsn
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(1) // pool
	s := &server{db: db}
	http.HandleFunc("/", s.handle)
}
