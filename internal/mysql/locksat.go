package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/server"
)

// checkLocks refuses a server whose named locks are not those of all who write to the database, and finds out what names them.
func checkLocks(ctx context.Context, sc *server.Conn) error {
	// A proxy that answers the first itself has the second from a server.
	alone, err := one(ctx, sc, "SELECT CONNECTION_ID()")
	if err != nil {
		return err
	}
	told, err := one(ctx, sc, "SELECT CONNECTION_ID(), COALESCE(DATABASE(), ''), VERSION()")
	if err != nil {
		return err
	}
	if alone[0] != told[0] {
		return errOtherSession
	}
	vars, err := variables(ctx, sc, "read_only", "super_read_only", "innodb_read_only", "wsrep_on", "wsrep_provider",
		"group_replication_group_name", "group_replication_single_primary_mode", "lower_case_table_names")
	if err != nil {
		return err
	}
	if err := refuse(told[1], told[2], vars); err != nil {
		return err
	}
	database := told[1]
	if vars["lower_case_table_names"] != "0" {
		database = strings.ToLower(database)
	}
	id, err := strconv.ParseUint(told[0], 10, 64)
	if err != nil {
		return fmt.Errorf("dblocker: lock_scope=database: the server says that the number of the connection is %q", told[0])
	}
	var patience time.Duration
	if t := drivers.Field(drivers.Field(reflect.ValueOf(sc.Inner()), "cfg"), "ReadTimeout"); t.CanInt() {
		patience = time.Duration(t.Int()) / 2
	}
	sc.LockState = &lockState{patience: patience, session: told[0], database: database, readers: cmp.Or(sc.LockReaders(), DefaultReaders), share: int(id % shares), used: int(id % shares),
		mariaDB: strings.Contains(told[2], "MariaDB")}
	return nil
}

// refuse returns why the locks are not to be had.
func refuse(database, version string, vars map[string]string) error {
	on := func(name string) bool { v := vars[name]; return v != "" && v != "0" && !strings.EqualFold(v, "OFF") }
	provider, group := vars["wsrep_provider"], vars["group_replication_group_name"]
	switch {
	case database == "":
		return errors.New("dblocker: lock_scope=database needs the name of a database in the DSN: user@tcp(host:3306)/app; locks of the server are named by it, so that all processes mean the same")
	case strings.Contains(version, "TiDB"), strings.Contains(version, "Vitess"):
		return fmt.Errorf("dblocker: lock_scope=database cannot be had on %s, whose GET_LOCK is not that of MySQL; leave the option out, and the locks reach as far as this process", version)
	case on("read_only"), on("super_read_only"), on("innodb_read_only"):
		return errors.New("dblocker: lock_scope=database cannot be had on a server that is read_only, which a replica is: its locks are its own, and no other server's; connect to the primary server")
	case on("wsrep_on"), provider != "" && provider != "none":
		return errors.New("dblocker: lock_scope=database cannot be had on a Galera cluster: each server there has named locks of its own; leave the option out, and the locks reach as far as this process")
	case group != "" && !on("group_replication_single_primary_mode"):
		return errors.New("dblocker: lock_scope=database cannot be had on a replication group of several primary servers, each of which has named locks of its own; leave the option out, and the locks reach as far as this process")
	}
	return nil
}

// one returns the only row of a query.
func one(ctx context.Context, sc *server.Conn, query string) ([]string, error) {
	rows, err := sc.QueryText(ctx, query)
	if err == nil && len(rows) != 1 {
		err = errors.New("it does not tell")
	}
	if err != nil {
		return nil, fmt.Errorf("dblocker: lock_scope=database: asking the server about a new connection: %w", err)
	}
	return rows[0], nil
}

// variables returns those that the server has, of a list.
func variables(ctx context.Context, sc *server.Conn, names ...string) (map[string]string, error) {
	rows, err := sc.QueryText(ctx, "SHOW VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "','")+"')")
	if err != nil {
		return nil, fmt.Errorf("dblocker: lock_scope=database: asking the server for its variables: %w", err)
	}
	vars := make(map[string]string)
	for _, row := range rows {
		if len(row) == 2 {
			vars[strings.ToLower(row[0])] = row[1]
		}
	}
	return vars, nil
}

var errStale = &server.LockFailure{Refused: true, Err: errors.New("dblocker: this transaction was begun for nobody, perhaps at REPEATABLE READ, and has had statements, so it may see the database as it was before the user's lock was had: " +
	"begin it with the user's context, or at READ COMMITTED")}

// checkFresh refuses a transaction that may see the database as it was before now. The server does not tell what the level of the one is
// that is open, but of the session.
func checkFresh(ctx context.Context, sc *server.Conn) error {
	if !sc.TxSent {
		return nil
	}
	switch sql.IsolationLevel(sc.TxLevel) {
	case sql.LevelReadCommitted, sql.LevelReadUncommitted, sql.LevelSerializable: // which reads under row locks
		return nil
	case sql.LevelDefault:
		vars, err := variables(ctx, sc, "tx_isolation", "transaction_isolation")
		if err != nil {
			return err
		}
		if level := cmp.Or(vars["transaction_isolation"], vars["tx_isolation"]); level != "" && level != "REPEATABLE-READ" {
			return nil
		}
	}
	return errStale
}

// where names the database, which names the locks.
func where(ctx context.Context, sc *server.Conn) (string, error) {
	told, err := one(ctx, sc, "SELECT @@hostname, @@port")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s of server %s:%s", stateOf(sc).database, told[0], told[1]), nil
}

// watch looks at the network connection of go-sql-driver, if it is that.
func watch(sc *server.Conn) func() (ended, known bool) {
	if drivers.Package(sc.Inner()) != "github.com/go-sql-driver/mysql" {
		return nil
	}
	raw, wrapped := socket(sc.Inner(), "rawConn"), socket(sc.Inner(), "netConn")
	if raw == nil {
		raw, wrapped = wrapped, nil
	}
	if raw == nil {
		return nil
	}
	return peek(raw, wrapped != nil && wrapped != raw)
}

// socket returns a network connection that the driver has, or nil. It is only ever looked at.
func socket(ci driver.Conn, field string) net.Conn {
	c := drivers.Field(reflect.ValueOf(ci), field)
	if !c.IsValid() || !c.CanAddr() || c.Type() != reflect.TypeFor[net.Conn]() {
		return nil
	}
	return *(*net.Conn)(unsafe.Pointer(c.UnsafeAddr())) // as it is not exported
}
