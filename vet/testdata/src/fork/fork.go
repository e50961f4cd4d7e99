package fork

import (
	"context"
	"database/sql"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/calmdocs/dblocker"
)

var db, _ = sql.Open("dblocker", "sqlite3:app.db")

func handler(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	go func() {
		db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request, so that both count as one and may wait for themselves; give it dblocker.Fork\(ctx\)`
		db.ExecContext(ctx, "UPDATE t SET v = 2")
	}()
	go func() {
		ctx := dblocker.Fork(ctx)
		db.ExecContext(ctx, "UPDATE t SET v = 1")
	}()
	go func() { db.ExecContext(dblocker.Fork(ctx), "UPDATE t SET v = 1") }()
	go func(ctx context.Context) { db.ExecContext(ctx, "UPDATE t SET v = 1") }(dblocker.Fork(ctx))
	func() { db.ExecContext(ctx, "UPDATE t SET v = 1") }() // is no goroutine
}

func group(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range 2 {
		g.Go(func() error {
			_, err := db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
			return err
		})
	}
	for range 2 {
		g.Go(func() error {
			_, unlock, err := dblocker.Lock(dblocker.Fork(ctx), db)
			defer unlock()
			return err
		})
	}
	return g.Wait()
}

func tagged() {
	ctx := dblocker.WithUser(context.Background(), 1)
	go func() {
		db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
	}()
	db.ExecContext(ctx, "UPDATE t SET v = 2")
}

func taggedForEach(base context.Context, users []string) error {
	var g errgroup.Group
	for _, u := range users {
		ctx := dblocker.WithUser(base, u)
		g.Go(func() error {
			_, err := db.ExecContext(ctx, "UPDATE t SET v = 1") // is its own
			return err
		})
	}
	for _, u := range users {
		ctx := dblocker.WithUser(base, u)
		go saveOn(ctx, db)
	}
	system := dblocker.WithUser(base, "system")
	go func() {
		for {
			db.ExecContext(system, "UPDATE t SET v = 1")
		}
	}()
	return g.Wait()
}

func taggedForAll(base context.Context) error {
	var g errgroup.Group
	ctx := dblocker.WithUser(base, 1)
	for range 2 {
		g.Go(func() error {
			_, err := db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
			return err
		})
	}
	return g.Wait()
}

func passed(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	var g errgroup.Group
	go saveOn(ctx, db)                                    // want `give it dblocker.Fork\(ctx\)`
	go db.ExecContext(r.Context(), "UPDATE t SET v = 1")  // want `give it dblocker.Fork\(r.Context\(\)\)`
	go func() { saveOn(r.Context(), db) }()               // want `give it dblocker.Fork\(r.Context\(\)\)`
	g.Go(func() error { return saveOn(r.Context(), db) }) // want `give it dblocker.Fork\(r.Context\(\)\)`
	go saveOn(dblocker.Fork(ctx), db)
	go send(ctx, "done")
	saveOn(ctx, db)
	g.Wait()
}

func saveOn(ctx context.Context, db *sql.DB) error { return nil }

func send(ctx context.Context, text string) {}

func worker(ctx context.Context) {
	go func() { db.ExecContext(ctx, "UPDATE t SET v = 1") }() // may be of the whole program
}

func forked(ctx context.Context) {
	part := dblocker.Fork(ctx)
	var g errgroup.Group
	g.Go(func() error {
		_, err := db.ExecContext(part, "UPDATE t SET v = 1")
		return err
	})
}

func ofNobody(w http.ResponseWriter, r *http.Request) {
	ctx := dblocker.WithoutUser(r.Context())
	go func() { db.ExecContext(ctx, "DELETE FROM log") }()
}

func oneLine(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	var g errgroup.Group
	go func() { db.ExecContext(ctx, "UPDATE t SET v = 1") }()                              // want `a goroutine uses the context of its request`
	g.Go(func() error { return save(ctx) })                                                // a goroutine of a function that is not looked into
	g.Go(func() error { _, err := db.ExecContext(ctx, "UPDATE t SET v = 1"); return err }) // want `a goroutine uses the context of its request`
	go func() { /* short */ db.ExecContext(ctx, "UPDATE t SET v = 1") }()                  // want `a goroutine uses the context of its request`
	go func() {                                                                            // in the background
		db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
	}()
	go func() {
		// first one
		db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
	}()
	go func() { /* of two
		lines */db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
	}()
	go func() { /* one */ /* two */
		db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
	}()
	go func() { db.ExecContext(ctx, "UPDATE t SET v = 1") /* behind */ }() // want `a goroutine uses the context of its request`
	g.Wait()
}

func save(ctx context.Context) error { return nil }

func declaresItself(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	go func() {
		db.ExecContext(ctx, "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
		ctx := context.WithoutCancel(ctx)
		db.ExecContext(ctx, "UPDATE t SET v = 1")
	}()
}

func nameIsTaken(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	dblocker := 1
	go func() {
		db.ExecContext(ctx, "UPDATE t SET v = ?", dblocker) // want `a goroutine uses the context of its request`
	}()
}

func inSection(w http.ResponseWriter, r *http.Request) {
	ctx, unlock, _ := dblocker.Lock(r.Context(), db)
	defer unlock()
	var g errgroup.Group
	g.Go(func() error { return saveOn(ctx, db) })
	dblocker.Do(r.Context(), db, func(ctx context.Context) error {
		g.Go(func() error { return saveOn(ctx, db) })
		return g.Wait()
	})
}

func supervise(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return saveOn(ctx, db) }) // may be of the whole program
	return g.Wait()
}

func severalTimes(w http.ResponseWriter, r *http.Request) {
	go func() {
		db.ExecContext(r.Context(), "UPDATE t SET v = 1") // want `a goroutine uses the context of its request`
		db.ExecContext(r.Context(), "UPDATE t SET v = 2")
	}()
}
