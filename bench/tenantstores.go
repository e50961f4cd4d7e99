package main

import (
	"container/list"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker"
)

// A home is where the users of the suite "tenants" have their counters: a SQLite file each, or one for all.
type home interface {
	// take returns the handle for one statement of a user, the context for it, and what gives it back.
	take(ctx context.Context, user string, writes bool) (context.Context, *sql.DB, func(), error)
	close() error
}

// A homeWay is a contender of the suite "tenants". doc.go tells what each of them is.
type homeWay struct {
	name string
	open func(f tenantFiles, most int) (home, error) // most databases are open at a time, if it can bound them
}

const byHand, inMap, inOneFile = "by-hand", "map", "one-file"

var homeWays = []homeWay{
	{byHand, func(f tenantFiles, _ int) (home, error) { return handHome{f}, nil }},
	{inMap, func(f tenantFiles, most int) (home, error) { return newMapHome(f, most, ""), nil }},
	{"map+cache", func(f tenantFiles, most int) (home, error) { return newMapHome(f, most, "&_stmt_cache_size=64"), nil }},
	{"store", openStoreHome},
	{inOneFile, func(f tenantFiles, _ int) (home, error) { return openOneHome("sqlite3", "file:"+f.one()+tuned) }},
	{"dblocker", openTenantHome},
	{"dblocker-one", func(f tenantFiles, _ int) (home, error) { return openOneHome("sqlite3-dblocker", f.one()) }},
}

// A handHome keeps nothing open.
type handHome struct{ files tenantFiles }

func (h handHome) take(ctx context.Context, user string, _ bool) (context.Context, *sql.DB, func(), error) {
	db, err := sql.Open("sqlite3", "file:"+h.files.of(user)+tuned)
	return ctx, db, func() { db.Close() }, err
}

func (h handHome) close() error { return nil }

// A mapHome is what programs write by hand: a map of handles, of which those that were not used for the longest time are
// closed. It does not close one that is in use.
type mapHome struct {
	files  tenantFiles
	most   int
	params string

	mu     sync.Mutex // guards what follows
	byUser map[string]*mapEntry
	recent list.List // of all entries; those that were used last come first
}

type mapEntry struct {
	user string
	db   *sql.DB
	uses int // now
	at   *list.Element
	give func()
}

func newMapHome(f tenantFiles, most int, params string) *mapHome {
	return &mapHome{files: f, most: most, params: params, byUser: make(map[string]*mapEntry)}
}

func (h *mapHome) take(ctx context.Context, user string, _ bool) (context.Context, *sql.DB, func(), error) {
	e, old, err := h.use(user)
	if old != nil {
		old.Close()
	}
	if err != nil {
		return nil, nil, nil, err
	}
	return ctx, e.db, e.give, nil
}

// use returns the entry of a user, and a handle that has to go for it.
func (h *mapHome) use(user string) (e *mapEntry, old *sql.DB, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e = h.byUser[user]; e != nil {
		e.uses++
		h.recent.MoveToFront(e.at)
		return e, nil, nil
	}
	db, err := sql.Open("sqlite3", "file:"+h.files.of(user)+tuned+h.params) // does not connect
	if err != nil {
		return nil, nil, err
	}
	e = &mapEntry{user: user, db: db, uses: 1}
	e.give = func() {
		h.mu.Lock()
		e.uses--
		h.mu.Unlock()
	}
	e.at = h.recent.PushFront(e)
	h.byUser[user] = e
	if len(h.byUser) > h.most {
		old = h.evict()
	}
	return e, old, nil
}

// evict returns the handle that has not been used for the longest time. mu is locked.
func (h *mapHome) evict() *sql.DB {
	for at := h.recent.Back(); at != nil; at = at.Prev() {
		if e := at.Value.(*mapEntry); e.uses == 0 {
			h.recent.Remove(at)
			delete(h.byUser, e.user)
			return e.db
		}
	}
	return nil
}

func (h *mapHome) close() (err error) {
	for _, e := range h.byUser {
		err = errors.Join(err, e.db.Close())
	}
	return err
}

// A storeHome is a Store of dblocker, with a function that opens each user's database.
type storeHome struct{ store *dblocker.Store }

func openStoreHome(f tenantFiles, most int) (home, error) {
	connect := func(_ context.Context, user, driver, _ string) (*sqlx.DB, error) {
		return sqlx.Open(driver, "file:"+f.of(user)+tuned)
	}
	s, err := dblocker.New(context.Background(), "sqlite3", f.one(), false, dblocker.ConnectFunc(connect), dblocker.MaxOpenDatabases(most))
	return storeHome{s}, err
}

func (h storeHome) take(ctx context.Context, user string, writes bool) (context.Context, *sql.DB, func(), error) {
	get := h.store.ReadGetDB
	if writes {
		get = h.store.RWGetDB
	}
	cancel, db, err := get(user, ctx, "")
	if err != nil {
		return nil, nil, nil, err
	}
	return ctx, db.DB, cancel, nil
}

func (h storeHome) close() error { return h.store.Close() }

// openTenantHome opens a handle of dblocker with a file for each user.
func openTenantHome(f tenantFiles, most int) (home, error) {
	return openOneHome("dblocker", fmt.Sprintf("sqlite3?max_open_databases=%d:%s", most, filepath.Join(string(f), "{user}.db")))
}

// A oneHome is a handle for all users.
type oneHome struct{ db *sql.DB }

func openOneHome(driver, dsn string) (home, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	idle(db)
	return oneHome{db}, nil
}

func (h oneHome) take(ctx context.Context, user string, _ bool) (context.Context, *sql.DB, func(), error) {
	return dblocker.WithUser(ctx, user), h.db, nothing, nil
}

func nothing() {}

func (h oneHome) close() error { return h.db.Close() }
