package tools

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

type addArgs struct {
	User    string `json:"user"`
	Account int64  `json:"account"`
}

func (addArgs) Kind() string { return "add" }

// An addWorker works for the user whose job it is.
type addWorker struct {
	river.WorkerDefaults[addArgs]
	accounts sqlcProgram
}

func (w *addWorker) Work(ctx context.Context, job *river.Job[addArgs]) error {
	ctx = dblocker.WithUser(ctx, job.Args.User)
	return w.accounts.Add(ctx, job.Args.Account)
}

// TestRiver: jobs are inserted in transactions of users, and worked on by 16 goroutines.
func TestRiver(t *testing.T) {
	testdb.NoLeaks(t)
	for _, e := range []*engine{sqliteEngine, postgresEngine} { // River has no MySQL
		for _, locked := range []bool{false, true} {
			t.Run(e.name+map[bool]string{false: "/bare", true: "/dblocker"}[locked], func(t *testing.T) {
				t.Parallel()
				to := newTarget(t, e, locked, false)
				if e == sqliteEngine && !locked {
					to.handle.SetMaxOpenConns(1) // as River's documentation says
				}
				p, err := openSqlc(to)
				if err != nil {
					t.Fatal(err)
				}
				got, want := work(t, to, p.(sqlcProgram))
				t.Logf("%d of %d updates lost", want-got, want)
				if locked && got != want {
					t.Errorf("the account has %d cents, want %d", got, want)
				}
			})
		}
	}
}

func work(t *testing.T, to *target, p sqlcProgram) (got, want int64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, p.Migrate(ctx))
	must(t, p.Create(ctx, 1))
	jobs := 16 * *rounds
	must(t, enqueueAndWork(ctx, to, p, jobs))
	got, err := p.Cents(ctx, 1)
	must(t, err)
	return got, int64(jobs)
}

func enqueueAndWork(ctx context.Context, to *target, p sqlcProgram, jobs int) error {
	if to.engine == sqliteEngine {
		return runRiver(ctx, riversqlite.New(to.handle), p, jobs)
	}
	return runRiver(ctx, riverdatabasesql.New(to.handle), p, jobs)
}

func runRiver(ctx context.Context, driver riverdriver.Driver[*sql.Tx], p sqlcProgram, jobs int) error {
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: logger})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &addWorker{accounts: p})
	client, err := river.NewClient(driver, &river.Config{
		Logger:            logger,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 16}},
		Workers:           workers,
		FetchCooldown:     10 * time.Millisecond,
		FetchPollInterval: 50 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	for range jobs {
		if err := enqueue(dblocker.WithUser(ctx, "ann"), p.handle, client); err != nil {
			return err
		}
	}
	done, unsubscribe := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed)
	defer unsubscribe()
	if err := client.Start(ctx); err != nil {
		return err
	}
	for range jobs {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return client.Stop(ctx)
}

// enqueue inserts a job in a transaction of the user's.
func enqueue(ctx context.Context, handle *sql.DB, client *river.Client[*sql.Tx]) error {
	tx, err := handle.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := client.InsertTx(ctx, tx, addArgs{User: "ann", Account: 1}, nil); err != nil {
		return err
	}
	return tx.Commit()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
