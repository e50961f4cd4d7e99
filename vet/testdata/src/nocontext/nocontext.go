package nocontext

import (
	"context"
	"database/sql"
	"net/http"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker"
	"opens"
)

type server struct {
	db    *sql.DB
	other *sql.DB
	x     *sqlx.DB
	far   *sql.DB
}

func newServer(dsn string) (*server, error) {
	db, err := sql.Open("dblocker", "sqlite3:"+dsn)
	if err != nil {
		return nil, err
	}
	other, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, err
	}
	far, err := opens.Open()
	return &server{db: db, other: other, x: sqlx.NewDb(db, "sqlite3"), far: far}, err
}

func (s *server) handle(w http.ResponseWriter, r *http.Request) {
	s.db.Exec("UPDATE t SET v = ?", 1)            // want `Exec has no context, so no user, and takes no lock; write ExecContext`
	s.other.Exec("UPDATE t SET v = ?", 1)         // of another driver
	s.far.QueryRow("SELECT 1")                    // want `QueryRow has no context`
	s.x.Get(nil, "SELECT 1")                      // want `Get has no context`
	s.x.DB.Query("SELECT 1")                      // want `Query has no context`
	opens.Shared.Begin()                          // want `Begin has no context`
	s.db.Ping()                                   // takes no lock
	s.db.Exec("CREATE TABLE t (v)")               // is nobody's
	s.db.Exec("PRAGMA user_version")              // want `Exec has no context`
	s.db.Exec("SET TIME ZONE 'UTC'")              // takes none either
	defer func() { s.db.Exec("DELETE FROM t") }() // when the context may have ended
	s.db.ExecContext(r.Context(), "UPDATE t SET v = 1")
}

func (s *server) save(ctx context.Context) error {
	tx, err := s.db.Begin() // want `Begin has no context`
	if err != nil {
		return err
	}
	tx.Exec("UPDATE t SET v = 1") // has the lock of the transaction
	xtx, err := s.x.Beginx()      // want `Beginx has no context`
	_ = xtx
	return tx.Commit()
}

func (s *server) section(ctx context.Context) error {
	sctx, unlock, err := dblocker.Lock(ctx, s.db)
	if err != nil {
		return err
	}
	defer unlock()
	_ = sctx
	_, err = s.db.Exec("UPDATE t SET v = 1") // want `Exec has no context`
	return err
}

func (s *server) noContextAtHand() {
	s.db.Exec("UPDATE t SET v = 1")
}

func passed(ctx context.Context, db *sql.DB) {
	db.Exec("UPDATE t SET v = 1") // want `Exec has no context`
}

func (s *server) pass() { passed(nil, s.db) }

func unknown(ctx context.Context, db *sql.DB) { db.Exec("UPDATE t SET v = 1") }

func shown(ctx context.Context, db *sql.DB) {
	dblocker.Holds(db)
	db.Exec("UPDATE t SET v = 1") // want `Exec has no context`
}

func ofStore(ctx context.Context, store *dblocker.Store) error {
	cancel, db, err := store.RWGetDB("ann", ctx, "x")
	if err != nil {
		return err
	}
	defer cancel()
	db.Exec("UPDATE t SET v = 1")         // is inside a section
	store.DB().Exec("UPDATE t SET v = 1") // want `Exec has no context`
	inner, err := dblocker.Inner(store.DB())
	inner.Exec("PRAGMA x") // is of the driver
	return store.ReadDo("ann", ctx, "x", func(db *sqlx.DB) error {
		return db.Get(nil, "SELECT 1")
	})
}

func init() {
	s, _ := newServer("app.db")
	s.db.Exec("CREATE TABLE t (v)") // where the program begins
}

func wrapped(ctx context.Context) {
	c, _ := dblocker.NewConnector(nil)
	db := sql.OpenDB(c)
	db.Query("SELECT 1") // want `Query has no context`
	x, _ := dblocker.Openx("sqlite3", "app.db")
	x.Select(nil, "SELECT 1") // want `Select has no context`
}

func statement() (query string, err error) { return "UPDATE t SET v = ?", nil }

func (s *server) severalResults(ctx context.Context) {
	s.db.Exec(statement()) // want `Exec has no context`
}

type own struct{ *sql.DB }

func (own) ExecContext(query string) {}

func ownMethod(ctx context.Context, s *server) {
	o := own{s.db}
	o.Exec("UPDATE t SET v = 1") // the type is another
	s.db.Exec(                   // want `Exec has no context`
		"UPDATE t SET v = 1")
}

func inOneLine(ctx context.Context, s *server) { s.db.Exec("UPDATE t SET v = 1") } // want `Exec has no context`
