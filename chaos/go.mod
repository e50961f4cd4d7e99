module github.com/calmdocs/dblocker/chaos

go 1.25.0

replace github.com/calmdocs/dblocker => ../

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/calmdocs/dblocker v0.0.0-00010101000000-000000000000
	github.com/go-sql-driver/mysql v1.10.1
	github.com/lib/pq v1.12.3
	github.com/mattn/go-sqlite3 v1.14.53
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/jmoiron/sqlx v1.4.0 // indirect
	go.uber.org/goleak v1.3.0 // indirect
)
