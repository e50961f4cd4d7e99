package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// databases makes the databases of a run, one for each contender, and removes
// them at the end.
type databases struct {
	server func(*testdb.Engine) (*testdb.Server, error)
	prefix string         // of the names of those on servers
	undo   []func() error // in the order of what is to be undone
	ways   []*proxy       // to servers that are far away
}

// file returns the path of a database file that does not exist yet, in a new
// directory below parent.
func (d *databases) file(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "dblocker-bench-")
	if err != nil {
		return "", err
	}
	d.undo = append(d.undo, func() error { return os.RemoveAll(dir) })
	return filepath.Join(dir, "bench.db"), nil
}

// create makes a database with the tables of schema, and returns the DSN that the
// bare driver takes for it. SQLite's is a file below parent.
func (d *databases) create(ctx context.Context, e *engine, parent string) (dsn string, err error) {
	if e.server == nil {
		path, err := d.file(parent)
		if err != nil {
			return "", err
		}
		dsn = "file:" + path + tuned
	} else if dsn, err = d.onServer(ctx, e); err != nil {
		return "", err
	}
	db, err := sql.Open(e.driver, dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	return dsn, execAll(ctx, db, schema())
}

// onServer makes an empty database on the engine's server.
func (d *databases) onServer(ctx context.Context, e *engine) (dsn string, err error) {
	server, err := d.server(e.server)
	if err != nil {
		return "", err
	}
	database := &testdb.Database{Server: server, Name: fmt.Sprintf("dblocker_bench_%d_%s%d", os.Getpid(), d.prefix, len(d.undo))}
	asAdmin := func(ctx context.Context, statement string) error {
		return administer(ctx, e, server, statement)
	}
	if err := asAdmin(ctx, "CREATE DATABASE "+database.Name); err != nil {
		return "", err
	}
	d.undo = append(d.undo, func() error { return asAdmin(context.Background(), "DROP DATABASE "+database.Name) })
	return database.DSN(), nil
}

func administer(ctx context.Context, e *engine, server *testdb.Server, statement string) error {
	system := &testdb.Database{Server: server}
	if e.server == testdb.PostgreSQL {
		system.Name = "postgres"
	}
	db, err := sql.Open(e.driver, system.DSN())
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// remove removes the databases, and stops the servers that were started for them.
func (d *databases) remove() error {
	var errs []error
	for len(d.undo) > 0 {
		last := len(d.undo) - 1
		errs = append(errs, d.undo[last]())
		d.undo = d.undo[:last]
	}
	return errors.Join(errs...)
}
