package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker" // it brings the drivers sqlite3, postgres and mysql
)

// A workload is the users at work on one handle. It does not know whether that
// is the bare driver or dblocker: all it does is plain database/sql, and its
// contexts say for which user something is done, as a web server's would.
type workload struct {
	db            *sql.DB
	prefix        string // of the tables
	bind          int    // sqlx's style of placeholders
	files         []file
	users         []*user
	reads, writes measure
}

// A user has an index of its own, and does several things at the same time.
type user struct {
	id      string
	taken   atomic.Int64 // files that the user's indexers have taken up
	renames atomic.Int64 // that the database has acknowledged

	mu      sync.Mutex
	indexed []int // files that are in the index: the database has acknowledged it
}

// anyIndexed picks one of the files that are in the index.
func (u *user) anyIndexed() (id int, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.indexed) == 0 {
		return 0, false
	}
	return u.indexed[mathrand.IntN(len(u.indexed))], true
}

func (u *user) addIndexed(id int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.indexed = append(u.indexed, id)
}

// jobs are what each user has running at the same time.
var jobs = []struct {
	goroutines int
	do         func(w *workload, ctx context.Context, u *user) error
}{
	{2, (*workload).index},
	{2, onIndexed((*workload).rename)},
	{1, onIndexed((*workload).lookUp)},
	{1, onIndexed((*workload).listDirectory)},
	{1, onIndexed((*workload).countDirectory)},
}

// onIndexed is the job that does something with one of the files that are in the
// index. While there is none, it fails.
func onIndexed(do func(w *workload, ctx context.Context, u *user, id int) error) func(*workload, context.Context, *user) error {
	return func(w *workload, ctx context.Context, u *user) error {
		id, ok := u.anyIndexed()
		if !ok {
			return errEmpty
		}
		return do(w, ctx, u, id)
	}
}

var errEmpty = errors.New("nothing is in the index yet")

const (
	// grace is how long the operations that are running when the time is up may
	// take to finish.
	grace = 2 * time.Second

	// pause is how long a job rests when it has failed, so that a server that is
	// gone does not make for a million errors.
	pause = 10 * time.Millisecond
)

// newWorkload makes the tables.
func newWorkload(ctx context.Context, db *sql.DB, driver string, files []file, users int) (*workload, error) {
	w := &workload{
		db:     db,
		prefix: "quickstart_" + strings.ToLower(rand.Text()[:8]),
		bind:   sqlx.BindType(driver),
		files:  files,
	}
	for i := range users {
		w.users = append(w.users, &user{id: fmt.Sprintf("user%d", i+1)})
	}
	if err := w.createTables(ctx); err != nil {
		w.dropTables()
		return nil, fmt.Errorf("making the tables: %w", err)
	}
	return w, nil
}

// createTables is start-up code: its context carries no user, and dblocker takes
// no lock for it.
func (w *workload) createTables(ctx context.Context) error {
	for _, query := range []string{
		`CREATE TABLE @_files (
			user_id VARCHAR(20) NOT NULL, file_id INTEGER NOT NULL,
			path VARCHAR(500) NOT NULL, dir VARCHAR(500) NOT NULL, name VARCHAR(600) NOT NULL, version INTEGER NOT NULL,
			size INTEGER NOT NULL, line_count INTEGER NOT NULL, hash CHAR(64) NOT NULL,
			PRIMARY KEY (user_id, file_id))`,
		`CREATE INDEX @_path ON @_files (user_id, path)`,
		`CREATE INDEX @_dir ON @_files (user_id, dir)`,
		`CREATE TABLE @_users (user_id VARCHAR(20) PRIMARY KEY, renames INTEGER NOT NULL)`,
	} {
		if _, err := w.db.ExecContext(ctx, w.sql(query)); err != nil {
			return err
		}
	}
	for _, u := range w.users {
		if _, err := w.db.ExecContext(ctx, w.sql(`INSERT INTO @_users (user_id, renames) VALUES (?, 0)`), u.id); err != nil {
			return err
		}
	}
	return nil
}

func (w *workload) dropTables() error {
	_, err1 := w.db.Exec(w.sql(`DROP TABLE IF EXISTS @_files`))
	_, err2 := w.db.Exec(w.sql(`DROP TABLE IF EXISTS @_users`))
	return errors.Join(err1, err2)
}

// sql writes out a statement for the tables and the engine at hand.
func (w *workload) sql(query string) string {
	return sqlx.Rebind(w.bind, strings.ReplaceAll(query, "@", w.prefix))
}

// work lets all users work until the time is up or ctx is done, and calls report
// about once a second.
func (w *workload) work(ctx context.Context, d time.Duration, report func(elapsed time.Duration)) {
	start := time.Now()
	working, stop := context.WithTimeout(ctx, d)
	defer stop()
	// Operations have a context that outlives that one by the grace, so that
	// what is running at the end is not counted as an error.
	running, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	context.AfterFunc(working, func() { time.AfterFunc(grace, abort) })

	var all sync.WaitGroup
	for _, u := range w.users {
		for _, job := range jobs {
			for range job.goroutines {
				all.Go(func() {
					for working.Err() == nil {
						// Once per operation, as a web server would once per request.
						if job.do(w, dblocker.WithUser(running, u.id), u) != nil {
							time.Sleep(pause)
						}
					}
				})
			}
		}
	}
	finished := make(chan struct{})
	go func() {
		all.Wait()
		close(finished)
	}()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			report(time.Since(start))
		case <-finished:
			return
		}
	}
}

// index reads the next file and writes what is in it to the user's index. Having
// been through all files it begins again.
func (w *workload) index(ctx context.Context, u *user) error {
	n := int(u.taken.Add(1) - 1)
	id := n % len(w.files)
	f := w.files[id]
	c, err := f.read()
	if err != nil { // gone, or not readable any more
		return err
	}
	if n >= len(w.files) {
		return w.exec(ctx, `UPDATE @_files SET size = ?, line_count = ?, hash = ? WHERE user_id = ? AND file_id = ?`,
			c.size, c.lines, c.hash, u.id, id)
	}
	err = w.exec(ctx, `
		INSERT INTO @_files (user_id, file_id, path, dir, name, version, size, line_count, hash)
		VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)`, u.id, id, f.rel, f.dir, f.name, c.size, c.lines, c.hash)
	if err == nil {
		u.addIndexed(id)
	}
	return err
}

// exec writes with a single statement.
func (w *workload) exec(ctx context.Context, query string, args ...any) error {
	return w.writes.time(ctx, func() error {
		_, err := w.db.ExecContext(ctx, w.sql(query), args...)
		return err
	})
}

// rename gives a file of the index a new name and counts that in the user's row:
// two times read, compute and write, in one transaction.
func (w *workload) rename(ctx context.Context, u *user, id int) error {
	return w.writes.time(ctx, func() error {
		tx, err := w.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := w.renameFile(ctx, tx, u, id); err != nil {
			return err
		}
		if err := w.countRename(ctx, tx, u); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		u.renames.Add(1)
		return nil
	})
}

func (w *workload) renameFile(ctx context.Context, tx *sql.Tx, u *user, id int) error {
	var name string
	var version int
	err := tx.QueryRowContext(ctx, w.sql(`SELECT name, version FROM @_files WHERE user_id = ? AND file_id = ?`), u.id, id).
		Scan(&name, &version)
	if err != nil {
		return err
	}
	version++
	name = fmt.Sprintf("%s (%d)", w.files[id].name, version)
	_, err = tx.ExecContext(ctx, w.sql(`UPDATE @_files SET name = ?, version = ? WHERE user_id = ? AND file_id = ?`),
		name, version, u.id, id)
	return err
}

func (w *workload) countRename(ctx context.Context, tx *sql.Tx, u *user) error {
	var renames int
	err := tx.QueryRowContext(ctx, w.sql(`SELECT renames FROM @_users WHERE user_id = ?`), u.id).Scan(&renames)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, w.sql(`UPDATE @_users SET renames = ? WHERE user_id = ?`), renames+1, u.id)
	return err
}

// lookUp finds a file by its path.
func (w *workload) lookUp(ctx context.Context, u *user, id int) error {
	return w.reads.time(ctx, func() error {
		var name, hash string
		return w.db.QueryRowContext(ctx, w.sql(`SELECT name, hash FROM @_files WHERE user_id = ? AND path = ?`),
			u.id, w.files[id].rel).Scan(&name, &hash)
	})
}

// listDirectory lists a file's directory by name.
func (w *workload) listDirectory(ctx context.Context, u *user, id int) error {
	return w.reads.time(ctx, func() error {
		rows, err := w.db.QueryContext(ctx, w.sql(`SELECT name, size FROM @_files WHERE user_id = ? AND dir = ? ORDER BY name`),
			u.id, w.files[id].dir)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var size int
			if err := rows.Scan(&name, &size); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// countDirectory counts the files and lines of a file's directory.
func (w *workload) countDirectory(ctx context.Context, u *user, id int) error {
	return w.reads.time(ctx, func() error {
		var files, lines int
		return w.db.QueryRowContext(ctx, w.sql(`SELECT COUNT(*), SUM(line_count) FROM @_files WHERE user_id = ? AND dir = ?`),
			u.id, w.files[id].dir).Scan(&files, &lines)
	})
}

// renames counts the renames that the database has acknowledged.
func (w *workload) renames() int {
	n := 0
	for _, u := range w.users {
		n += int(u.renames.Load())
	}
	return n
}

// lostUpdates counts the renames that the database has acknowledged and that are
// not in the final count.
func (w *workload) lostUpdates() (int, error) {
	lost := 0
	for _, u := range w.users {
		var renames int
		if err := w.db.QueryRow(w.sql(`SELECT renames FROM @_users WHERE user_id = ?`), u.id).Scan(&renames); err != nil {
			return 0, err
		}
		lost += max(0, int(u.renames.Load())-renames)
	}
	return lost, nil
}
