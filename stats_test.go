package dblocker

import (
	"path/filepath"
	"testing"
	"testing/synctest"
)

// TestConnectionsWaiting: Stats counts the calls that wait for a server connection now.
func TestConnectionsWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{}, MaxOpenConns(1), MaxIdleConns(3))
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		_, err = tx.Exec("UPDATE t SET v = 1")
		must(t, err)
		results := make(chan error, 2)
		for user := 2; user <= 3; user++ {
			go func() { results <- execAs(db, asUser(user)) }()
		}
		synctest.Wait()
		if st := waitsOf(t, db); st.ConnectionsWaiting != 2 || st.Waiting != 0 || st.MaxIdle != 3 {
			t.Errorf("got %+v", st)
		}
		must(t, tx.Rollback())
		must(t, <-results)
		must(t, <-results)
		if st := waitsOf(t, db); st.ConnectionsWaiting != 0 || st.Connections.Waits != 2 {
			t.Errorf("at the end: got %+v", st)
		}
	})
}

// TestConnectionsWaitingOfUsersDatabases: as TestConnectionsWaiting, where each user has a database.
func TestConnectionsWaitingOfUsersDatabases(t *testing.T) {
	x, err := Openx("sqlite3", filepath.Join(t.TempDir(), "{user}.db"), MaxOpenConns(1))
	must(t, err)
	defer x.Close()
	tx, err := x.BeginTx(asUser("a"), nil)
	must(t, err)
	_, err = tx.Exec("CREATE TABLE t (v INT)")
	must(t, err)
	result := make(chan error)
	go func() {
		_, err := x.ExecContext(asUser("b"), "CREATE TABLE t (v INT)")
		result <- err
	}()
	waitFor(t, func() bool { return waitsOf(t, x.DB).ConnectionsWaiting == 1 })
	must(t, tx.Commit())
	must(t, <-result)
	if st := waitsOf(t, x.DB); st.ConnectionsWaiting != 0 || st.Databases.Open != 2 || st.MaxIdle != 0 {
		t.Errorf("at the end: got %+v", st)
	}
}
