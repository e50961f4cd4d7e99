package dblocker

import (
	"database/sql"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/calmdocs/dblocker/internal/dsnparts"
	"github.com/calmdocs/dblocker/internal/engines"
)

// target is what a data source name of the driver "dblocker" comes to.
type target struct {
	driver string   // the inner driver's name
	opts   []Option // in the order of the option table
	keys   []string // of the options before the inner DSN
	dsn    string   // the inner DSN

	fromURL bool // dsn was the path of a URL, such as sqlite3://app.db
}

const dsnExample = `for example "sqlite3:app.db" or "postgres?lock_timeout=5s:postgres://user@host/app"`

// parseDSN reads a data source name of the driver "dblocker":
//
//	driver[?options]:inner-dsn
//	postgres://..., postgresql://..., mysql://..., sqlite3://..., sqlite://...
//
// The scheme of a URL may have options behind it too, as in postgres?lock_timeout=5s://...
// Errors never quote the inner DSN, which may hold a password.
func parseDSN(dsn string) (target, error) {
	if dsn == "" {
		return target{}, fmt.Errorf("dblocker: the data source name is empty; write driver[?options]:inner-dsn, %s", dsnExample)
	}
	head, inner, found := strings.Cut(dsn, ":")
	if !found {
		return target{}, fmt.Errorf("dblocker: the data source name has no colon, which separates the driver from its own DSN; write driver[?options]:inner-dsn, %s", dsnExample)
	}
	name, query, _ := strings.Cut(head, "?")
	if name == "" || strings.ContainsAny(name, "=@ ") || strings.Contains(name, "/") && !slices.Contains(sql.Drivers(), name) { // as in a DSN without a driver; not to be quoted
		return target{}, fmt.Errorf("dblocker: the data source name has no driver before its first colon; write driver[?options]:inner-dsn, %s", dsnExample)
	}
	opts, err := parseOptions(query)
	if err != nil {
		return target{}, err
	}
	t := target{opts: opts, keys: dsnparts.Names(strings.Split(query, "&"))}
	t.driver, t.dsn, t.fromURL = engines.Inner(name, inner)
	return t.completed()
}

// completed takes the options that stand in the inner DSN, and leaves a DSN that the driver reads.
func (t target) completed() (target, error) {
	err := t.takeOptions()
	if err == nil {
		t.dsn, err = engines.ForDriver(t.driver, t.dsn)
	}
	if err != nil {
		return target{}, err
	}
	return t, nil
}

// parseOptions reads the options of a DSN, strictly: unknown, repeated or
// unreadable ones are errors.
func parseOptions(query string) ([]Option, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("dblocker: the options before the first colon are not a URL query (%w); write for example lock_timeout=5s&max_open_conns=20", err)
	}
	var opts []Option
	for _, spec := range optionTable {
		switch v := values[spec.key]; len(v) {
		case 0:
			continue
		case 1:
			opts = append(opts, option(spec.key, v[0]))
		default:
			return nil, fmt.Errorf("dblocker: option %s is given %d times; give it once", spec.key, len(v))
		}
		delete(values, spec.key)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		opts = append(opts, option(key, "")) // unknown: applying it gives the error that lists the known ones
	}
	return opts, nil
}
