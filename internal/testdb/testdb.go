package testdb

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Postgres returns the PostgreSQL server that all tests share.
func Postgres(t testing.TB) *Server {
	t.Helper()
	return shared(t, PostgreSQL)
}

// MySQL returns the MariaDB or MySQL server that all tests share.
func MySQL(t testing.TB) *Server {
	t.Helper()
	return shared(t, MariaDB)
}

// PrivatePostgres starts a PostgreSQL server for this test alone and stops it when the test ends.
func PrivatePostgres(t testing.TB) *PrivateServer {
	t.Helper()
	return private(t, PostgreSQL)
}

// PrivateMySQL starts a MariaDB server for this test alone and stops it when the test ends.
func PrivateMySQL(t testing.TB) *PrivateServer {
	t.Helper()
	return private(t, MariaDB)
}

// SQLite returns the path of a database file that does not exist yet, in a directory that is removed after the test.
func SQLite(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "test.db")
}

func shared(t testing.TB, e *Engine) *Server {
	t.Helper()
	s, err := e.sharedServer()
	require(t, err)
	return s
}

func private(t testing.TB, e *Engine) *PrivateServer {
	t.Helper()
	s, err := Launch(e)
	require(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// require is the one rule for tests that cannot have their server. Where none is installed, a developer's test is skipped with
// the reason; in CI it fails, because a skip there would pass for a success. A server that is there but does not work is a
// failure everywhere.
func require(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNotInstalled) && os.Getenv("CI") == "":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}
