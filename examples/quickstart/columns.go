package main

import (
	"database/sql"
	"fmt"
	"strings"
)

// A column is a way to open the database.
type column struct{ name string }

var columns = []column{{"bare"}, {"tuned"}, {"dblocker"}}

// open opens the target by a driver that stands for the target's.
func (c column) open(t target, driver string) (*sql.DB, error) {
	switch c.name {
	case "dblocker":
		return sql.Open("dblocker", driver+t.options+":"+t.dsnFor(c.name))
	case "tuned":
		db, err := sql.Open(driver, tunedDSN(t, c.name))
		if err == nil {
			db.SetMaxIdleConns(tunedIdle) // else it closes and opens connections all the time
		}
		return db, err
	}
	return sql.Open(driver, t.dsnFor(c.name))
}

const tunedIdle = 64

// tunedSQLite is what is recommended for mattn/go-sqlite3 under load: readers
// beside the writer, transactions that begin as writers, and patience.
const tunedSQLite = "_journal_mode=WAL&_synchronous=NORMAL&_txlock=immediate&_busy_timeout=10000"

// tunedDSN adds the settings after those that the DSN has, which win.
func tunedDSN(t target, column string) string {
	dsn := t.dsnFor(column)
	if t.driver != "sqlite3" {
		return dsn
	}
	if strings.Contains(dsn, "?") {
		return dsn + "&" + tunedSQLite
	}
	return dsn + "?" + tunedSQLite
}

// session is a statement for each new connection, or "".
func (c column) session(t target) string {
	if c.name != "tuned" {
		return ""
	}
	switch t.driver {
	case "postgres":
		return "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"
	case "mysql":
		return "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"
	}
	return ""
}

// opens says how the column opens the target.
func (c column) opens(t target) string {
	switch c.name {
	case "dblocker":
		return fmt.Sprintf("sql.Open(\"dblocker\", %q + dsn)", t.driver+t.options+":")
	case "tuned":
		settings := map[string]string{
			"sqlite3":  tunedSQLite,
			"postgres": "isolation level REPEATABLE READ",
			"mysql":    "isolation level SERIALIZABLE",
		}
		return fmt.Sprintf("sql.Open(%q, dsn), with %s and %d idle connections", t.driver, settings[t.driver], tunedIdle)
	}
	return fmt.Sprintf("sql.Open(%q, dsn)", t.driver)
}
