// Package testdb gives tests real databases: PostgreSQL and MariaDB servers, SQLite files, and a check that a test left
// nothing behind.
//
//	func TestSomething(t *testing.T) {
//		testdb.NoLeaks(t)                          // first, so that it looks last
//		d := testdb.Postgres(t).NewDatabase(t)     // empty, dropped after the test
//		db, err := sql.Open("postgres", d.URL())   // or d.DSN() for the keyword form
//		...
//	}
//
// Postgres and MySQL share one server among all tests: the one that DBLOCKER_TEST_POSTGRES or DBLOCKER_TEST_MYSQL names, or
// else a throwaway server, made from the installed binaries in a temporary directory. Tests that stop, kill or restart a server
// take one of their own from PrivatePostgres or PrivateMySQL. Without any of these a test is skipped in words, or fails in CI.
//
// The test command, internal/cmd/test, starts the servers once for all packages.
//
// The package talks to the servers through the drivers "postgres" (lib/pq) and "mysql" (go-sql-driver/mysql), which it
// registers by importing them.
package testdb
