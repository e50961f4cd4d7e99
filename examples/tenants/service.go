package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/calmdocs/dblocker"
)

// A service has the notes of each user in a file.
type service struct {
	db     *sql.DB
	dir    string
	opened atomic.Int64 // files, each time one was
}

// newService opens nothing yet: each file is opened by the first request of its user.
func newService(pattern string, open int) (*service, error) {
	s := &service{dir: filepath.Dir(pattern)}
	db, err := dblocker.Openx("sqlite3", pattern, dblocker.OnOpen(s.migrate), dblocker.MaxOpenDatabases(open))
	if err != nil {
		return nil, err
	}
	s.db = db.DB
	return s, nil
}

// migrations are what a file needs, in this order. PRAGMA user_version says how many of them it has had.
var migrations = []string{
	"CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
	"ALTER TABLE notes ADD COLUMN written TEXT NOT NULL DEFAULT ''",
}

// migrate runs each time a file is opened, before anybody's statement and with the user's exclusive lock. db is the file of the user, and ctx may be left away.
func (s *service) migrate(ctx context.Context, user string, db *sql.DB) error {
	s.opened.Add(1)
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("the file of %q is of a newer program", user)
	}
	for ; version < len(migrations); version++ {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, migrations[version]+fmt.Sprintf("; PRAGMA user_version = %d", version+1)); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.files)
	mux.Handle("GET /notes", asUser(s.list))
	mux.Handle("POST /notes", asUser(s.add))
	mux.Handle("DELETE /notes", asUser(s.remove))
	return mux
}

// asUser tags the context of a request with its user: what is done with it is on that user's file.
func asUser(f func(ctx context.Context, w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.URL.Query().Get("user") // your login check
		if user == "" {
			http.Error(w, "who are you? write ?user=ann", http.StatusUnauthorized)
			return
		}
		err := f(dblocker.WithUser(r.Context(), user), w, r)
		switch {
		case errors.Is(err, dblocker.ErrNoDatabase):
			http.Error(w, "there are no notes of yours", http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

// add writes a note, and answers how many there are.
func (s *service) add(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "INSERT INTO notes (text, written) VALUES (?, datetime('now'))", r.FormValue("text")); err != nil {
		return err
	}
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM notes").Scan(&n); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, n)
	return err
}

// list answers the user's last notes. No other user's are in the file: there is no WHERE to forget.
func (s *service) list(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	rows, err := s.db.QueryContext(ctx, "SELECT text FROM notes ORDER BY id DESC LIMIT 20")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		fmt.Fprintln(w, text)
	}
	return rows.Err()
}

// remove deletes all that is known of the user: the file.
func (s *service) remove(ctx context.Context, _ http.ResponseWriter, _ *http.Request) error {
	return dblocker.RemoveUser(ctx, s.db)
}

var page = template.Must(template.New("files").Parse(`<!doctype html><title>Files</title>
<table><tr><th>user<th>file<th>bytes</tr>
{{range .}}<tr><td>{{.User}}<td>{{.Name}}<td>{{.Size}}</tr>
{{end}}</table>
`))

// A file is that of a user.
type file struct {
	User, Name string
	Size       int64
}

// files shows whose files there are, without opening one.
func (s *service) files(w http.ResponseWriter, r *http.Request) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var all []file
	for _, e := range entries {
		name, isDB := strings.CutSuffix(e.Name(), ".db")
		user, ok := dblocker.UserOf(name)
		info, err := e.Info()
		if isDB && ok && err == nil {
			all = append(all, file{user, e.Name(), info.Size()})
		}
	}
	page.Execute(w, all)
}

// countAll returns how many notes all users have.
func (s *service) countAll(ctx context.Context) (int64, error) {
	var all atomic.Int64
	err := dblocker.EachUser(ctx, s.db, func(ctx context.Context) error {
		var n int64
		err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM notes").Scan(&n)
		all.Add(n)
		return err
	}, dblocker.EachShared())
	return all.Load(), err
}
