package everywhere

import "database/sql"

func migrate() {
	db, _ := sql.Open("dblocker", "sqlite3:app.db")
	db.Exec("CREATE TABLE t (v)") // want `Exec has no context`
}
