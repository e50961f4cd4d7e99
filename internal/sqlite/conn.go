package sqlite

import "database/sql/driver"

// Autocommit tells whether a connection of a driver is in no transaction, if the driver tells,
// as mattn/go-sqlite3 does.
func Autocommit(ci driver.Conn) (none, told bool) {
	c, told := ci.(interface{ AutoCommit() bool })
	return told && c.AutoCommit(), told
}
