package dblocker

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// benchWork is what the driver is measured with, and how many allocations more than on the bare driver that may take. It keeps statements, which saves some.
var benchWork = []struct {
	name string
	more float64
	run  func(ctx context.Context, db *sql.DB) error
}{
	{"query", -8, func(ctx context.Context, db *sql.DB) error {
		var n int
		return db.QueryRowContext(ctx, "SELECT n FROM t WHERE id = ?", 1).Scan(&n)
	}},
	{"exec", 3, func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE t SET n = n + 1 WHERE id = ?", 1)
		return err
	}},
	{"tx", 5, func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		return tx.Commit()
	}},
	{"update in tx", 5, func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE t SET n = n + 1 WHERE id = ?", 1); err != nil {
			return err
		}
		return tx.Commit()
	}},
}

// TestAllocations: a call allocates no more than it did, beside the bare driver.
func TestAllocations(t *testing.T) {
	if testdb.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	ctx := WithUser(context.Background(), 1)
	for _, work := range benchWork {
		var allocs []float64
		for _, driver := range []string{"sqlite3", "sqlite3-dblocker"} {
			db := openBench(t, driver)
			allocs = append(allocs, testing.AllocsPerRun(500, func() { must(t, work.run(ctx, db)) }))
		}
		if allocs[1] > allocs[0]+work.more {
			t.Errorf("%s: %v allocations, bare %v; want that and %v", work.name, allocs[1], allocs[0], work.more)
		}
	}
}

// BenchmarkSQLite puts the wrapped driver beside the bare one, on a file in WAL
// mode, one goroutine at work.
func BenchmarkSQLite(b *testing.B) {
	for _, work := range benchWork {
		for _, driver := range []string{"sqlite3", "sqlite3-dblocker"} {
			b.Run(work.name+"/driver="+driver, func(b *testing.B) {
				db := openBench(b, driver)
				ctx := WithUser(context.Background(), 1)
				b.ReportAllocs()
				for b.Loop() {
					if err := work.run(ctx, db); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkObserve puts a handle that nobody observes between the bare driver and one that is observed, with the events that come with every call.
func BenchmarkObserve(b *testing.B) {
	observed := fmt.Sprintf("sqlite3-observed-%p", b)
	must(b, Register(observed, &sqlite3.SQLiteDriver{}, Observe(func(Event) {}, everyCall...)))
	for _, work := range benchWork {
		for _, driver := range []string{"sqlite3", "sqlite3-dblocker", observed} {
			name := map[string]string{"sqlite3": "bare", observed: "observed"}[driver]
			b.Run(work.name+"/"+cmp.Or(name, "not observed"), func(b *testing.B) {
				db := openBench(b, driver)
				ctx := WithUser(context.Background(), 1)
				b.ReportAllocs()
				for b.Loop() {
					must(b, work.run(ctx, db))
				}
			})
		}
	}
}

func openBench(b testing.TB, driver string) *sql.DB {
	db, err := sql.Open(driver, "file:"+testdb.SQLite(b)+"?_journal_mode=WAL&_synchronous=NORMAL")
	must(b, err)
	b.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 1)")
	must(b, err)
	return db
}

// BenchmarkSection puts a statement in a section of its own beside the statement
// alone, both with a request's context, which can be cancelled, and one that cannot.
func BenchmarkSection(b *testing.B) {
	request, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, work := range []struct {
		name string
		lock func(context.Context, Handle, ...SectionOption) (context.Context, func(), error)
		run  func(ctx context.Context, db *sql.DB) error
	}{
		{"query", RLock, func(ctx context.Context, db *sql.DB) error {
			var n int
			return db.QueryRowContext(ctx, "SELECT n FROM t WHERE id = ?", 1).Scan(&n)
		}},
		{"exec", Lock, func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "UPDATE t SET n = n + 1 WHERE id = ?", 1)
			return err
		}},
	} {
		for name, parent := range map[string]context.Context{"background": context.Background(), "request": request} {
			for _, section := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/context=%s/section=%v", work.name, name, section), func(b *testing.B) {
					db := openBench(b, "sqlite3-dblocker")
					b.ReportAllocs()
					for b.Loop() {
						ctx, unlock := WithUser(parent, 1), func() {}
						if section {
							var err error
							if ctx, unlock, err = work.lock(ctx, db); err != nil {
								b.Fatal(err)
							}
						}
						if err := work.run(ctx, db); err != nil {
							b.Fatal(err)
						}
						unlock()
					}
				})
			}
		}
	}
}

// BenchmarkHandlePerRequest opens a handle for each request, and closes it: on one file, by so
// many goroutines, each for a user. A request reads a row, or writes it before.
func BenchmarkHandlePerRequest(b *testing.B) {
	const query, update = "SELECT n FROM t WHERE id = 1", "UPDATE t SET n = n + 1 WHERE id = 1"
	for _, mode := range []string{"WAL", "DELETE"} {
		dsn := "file:" + testdb.SQLite(b) + "?_synchronous=NORMAL&_journal_mode=" + mode
		serve(b, 1, "sqlite3", dsn, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)", "INSERT INTO t VALUES (1, 1)", query)
		for work, request := range map[string][]string{"read": {query}, "write": {update, query}} {
			for _, goroutines := range []int{1, 8} {
				for _, driver := range []string{"sqlite3", "sqlite3-dblocker"} {
					b.Run(fmt.Sprintf("%s/journal=%s/goroutines=%d/driver=%s", work, mode, goroutines, driver), func(b *testing.B) {
						b.ReportAllocs()
						var begun atomic.Int64
						var wg sync.WaitGroup
						for user := range goroutines {
							wg.Go(func() {
								for begun.Add(1) <= int64(b.N) {
									serve(b, user, driver, dsn, request...)
								}
							})
						}
						wg.Wait()
					})
				}
			}
		}
	}
}

// serve runs statements of a user, the last of which is a query, on a handle of their own.
func serve(b *testing.B, user int, driver, dsn string, statements ...string) {
	db, err := sql.Open(driver, dsn)
	must(b, err)
	ctx := WithUser(context.Background(), user+1)
	last := len(statements) - 1
	for _, s := range statements[:last] {
		_, err := db.ExecContext(ctx, s)
		must(b, err)
	}
	must(b, db.QueryRowContext(ctx, statements[last]).Scan(new(int)))
	must(b, db.Close())
}

// BenchmarkReadersOfNobody has 20 goroutines read, and one write, a file with a DELETE journal, without a user. An operation is a
// write; what is read meanwhile is counted.
func BenchmarkReadersOfNobody(b *testing.B) {
	for _, driver := range []string{"sqlite3", "sqlite3-dblocker"} {
		b.Run("driver="+driver, func(b *testing.B) {
			db, err := sql.Open(driver, "file:"+testdb.SQLite(b)+"?_journal_mode=DELETE&_txlock=immediate&_busy_timeout=10000&_synchronous=NORMAL")
			must(b, err)
			defer db.Close()
			if driver == "sqlite3" {
				db.SetMaxIdleConns(21) // more than dblocker keeps
			}
			mustExecAll(b, db, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)", "INSERT INTO t VALUES (1, 1)")
			ctx, cancel := context.WithCancel(context.Background())
			var reads atomic.Int64
			var readers sync.WaitGroup
			for range 20 {
				readers.Go(func() {
					for ctx.Err() == nil {
						var n int
						if err := db.QueryRow("SELECT n FROM t WHERE id = ?", 1).Scan(&n); err != nil {
							b.Error(err)
							return
						}
						reads.Add(1)
					}
				})
			}
			for b.Loop() {
				if _, err := db.Exec("UPDATE t SET n = n + 1 WHERE id = ?", 1); err != nil {
					b.Error(err)
					break
				}
			}
			took, n := b.Elapsed().Seconds(), float64(reads.Load())
			cancel()
			readers.Wait()
			b.ReportMetric(float64(b.N)/took, "writes/s")
			b.ReportMetric(n/took, "reads/s")
		})
	}
}

// BenchmarkBurst has one user's writers come all at once. An operation is one of them.
func BenchmarkBurst(b *testing.B) {
	for _, writers := range []int{400, 4000, 10000} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			db := openBench(b, "sqlite3-dblocker")
			for b.Loop() {
				var all sync.WaitGroup
				for range writers {
					all.Go(func() {
						if _, err := db.ExecContext(WithUser(context.Background(), 1), "UPDATE t SET n = n + 1 WHERE id = ?", 1); err != nil {
							b.Error(err)
						}
					})
				}
				all.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(writers), "µs/write")
		})
	}
}

func mustExecAll(b *testing.B, db *sql.DB, queries ...string) {
	for _, query := range queries {
		_, err := db.Exec(query)
		must(b, err)
	}
}
