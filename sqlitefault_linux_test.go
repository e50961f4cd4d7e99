package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// childTask names what a copy of the test binary is to do in place of tests.
const childTask = "DBLOCKER_TEST_CHILD"

// runChild runs a test of this binary alone in another process, as nobody, for
// whom permissions hold.
func runChild(t *testing.T, test, task string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	self, err := os.Executable()
	must(t, err)
	dir := openDir(t)
	binary := filepath.Join(dir, "test")
	copyFile(t, self, binary)
	cmd := osexec.Command(binary, "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), childTask+"="+task)
	cmd.Dir = dir
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}

// openDir makes a directory that others may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	defer out.Close()
	_, err = io.Copy(out, in)
	must(t, err)
}

// TestSQLiteWithoutPermission: what may be read is read, what may not be written
// fails as on the bare driver, and works once it may be.
func TestSQLiteWithoutPermission(t *testing.T) {
	if task := os.Getenv(childTask); task != "" {
		withoutPermission(t, task)
		return
	}
	for _, task := range []string{"file", "directory"} {
		t.Run(task, func(t *testing.T) { runChild(t, "TestSQLiteWithoutPermission", task) })
	}
}

// withoutPermission runs as a user whom permissions bind.
func withoutPermission(t *testing.T, task string) {
	path := testdb.SQLite(t)
	bareSQLite(t, path, "CREATE TABLE t (v)", "INSERT INTO t VALUES (7)")
	if task == "file" {
		must(t, os.Chmod(path, 0o444))
	} else {
		must(t, os.Chmod(filepath.Dir(path), 0o555))
	}
	db := openSQLite(t, "sqlite3-dblocker", path)
	readable := func() {
		t.Helper()
		for _, opts := range []*sql.TxOptions{nil, {ReadOnly: true}} {
			tx, err := db.BeginTx(asUser(1), opts)
			must(t, err)
			var v int
			must(t, tx.QueryRow("SELECT v FROM t").Scan(&v))
			must(t, tx.Commit())
		}
	}
	if task == "file" {
		readable() // a transaction that writes needs its journal in the directory
	}
	for range 3 {
		sameFailure(t, db, path, "INSERT INTO t VALUES (1)")
	}
	conns := make([]*sql.Conn, 4) // as many idle connections from before
	for i := range conns {
		var err error
		conns[i], err = db.Conn(context.Background())
		must(t, err)
		must(t, conns[i].PingContext(context.Background()))
	}
	for _, c := range conns {
		must(t, c.Close())
	}
	must(t, os.Chmod(filepath.Dir(path), 0o755))
	must(t, os.Chmod(path, 0o644))
	works(t, db, "INSERT INTO t VALUES (1)")
	readable()
}

// TestSQLiteOnAFullDisk: a failed write costs nothing but itself.
func TestSQLiteOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		if os.Getuid() == 0 && !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skipf("a small tmpfs cannot be mounted, which needs root: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	testdb.NoLeaks(t)
	for _, mode := range []string{"WAL", "DELETE"} {
		path := filepath.Join(dir, mode+".db")
		db := openSQLite(t, "sqlite3-dblocker", path+"?_journal_mode="+mode)
		works(t, db, "CREATE TABLE t (v)")
		works(t, db, "INSERT INTO t VALUES (7)")
		ballast := filepath.Join(dir, "ballast")
		fill(t, ballast)
		sameFailure(t, db, path, "INSERT INTO t VALUES (zeroblob(1000000))")
		var v int
		must(t, db.QueryRowContext(asUser(1), "SELECT v FROM t").Scan(&v))
		must(t, os.Remove(ballast))
		works(t, db, "INSERT INTO t VALUES (8)")
		if got := pragma(t, db, "integrity_check"); got != "ok" {
			t.Errorf("%s: integrity check: %s", mode, got)
		}
		if got := pragma(t, db, "user_version; SELECT group_concat(v) FROM t"); got != "7,8" {
			t.Errorf("%s: rows %s", mode, got)
		}
		must(t, db.Close())
	}
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
