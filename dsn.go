package dblocker

import (
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/calmdocs/dblocker/internal/dsnparts"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/server"
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
	t.dsn = readMark(t.dsn)
	return t.completed()
}

// completed takes the options that stand in the inner DSN, and leaves a DSN that the driver reads.
func (t target) completed() (target, error) {
	err := t.takeOptions()
	if err == nil {
		t.dsn, err = engines.ForDriver(t.driver, strings.ReplaceAll(t.dsn, userMark, markInURL))
		t.dsn = strings.ReplaceAll(t.dsn, markInURL, userMark)
	}
	if err != nil {
		return target{}, err
	}
	return t, nil
}

// markInURL stands for {user} in a URL while that is read: it has no characters that mean something there.
const markInURL = "dblocker0user0mark"

// parseOptions reads the options of a DSN, strictly: unknown, repeated or
// unreadable ones are errors.
func parseOptions(query string) ([]Option, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("dblocker: the options before the first colon are not a URL query (%w); write for example lock_timeout=5s&max_open_conns=20", err)
	}
	var opts []Option
	if strings.Contains(query, userMark) {
		return nil, fmt.Errorf("dblocker: %s stands among the options of dblocker, which are for the handle with all its users; it belongs behind the colon, in the DSN of the driver", userMark)
	}
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

// Options of dblocker that stand in the inner DSN. In the query of a URL they are taken
// from there, as a DATABASE_URL has no other place for them. In any other form they
// are an error: the inner driver would ignore them, or refuse them in words that speak of
// something else. A parameter of that name that the server has itself stays the server's.

// takeOptions moves the options that stand in the query of a URL to opts. The rest of the URL
// stays byte for byte.
func (t *target) takeOptions() error {
	if !t.fromURL && !engines.IsURL(t.dsn) {
		return nil
	}
	head, query, found := strings.Cut(t.dsn, "?")
	if !found {
		return nil
	}
	query, fragment, hasFragment := strings.Cut(query, "#")
	own, rest := t.splitQuery(query)
	if len(own) == 0 {
		return nil
	}
	opts, err := parseOptions(strings.Join(own, "&"))
	if err != nil {
		return err
	}
	if key := firstCommon(t.keys, dsnparts.Names(own)); key != "" {
		return fmt.Errorf("dblocker: option %s stands both before the URL and in its query; give it once", key)
	}
	t.opts, t.dsn = append(t.opts, opts...), head
	if len(rest) > 0 {
		t.dsn += "?" + strings.Join(rest, "&")
	}
	if hasFragment {
		t.dsn += "#" + fragment
	}
	return nil
}

// splitQuery tells the options of dblocker in a query from the rest of it.
func (t *target) splitQuery(query string) (own, rest []string) {
	ofServer := engines.ParamsOfServer(t.dsn)
	for _, pair := range strings.Split(query, "&") {
		name := dsnparts.Name(pair)
		if isOption(name) && !slices.Contains(ofServer, name) {
			own = append(own, pair)
		} else {
			rest = append(rest, pair)
		}
	}
	return own, rest
}

func isOption(name string) bool {
	return slices.ContainsFunc(optionTable, func(spec optionSpec) bool { return spec.key == name })
}

func firstCommon(a, b []string) string {
	for _, name := range a {
		if slices.Contains(b, name) {
			return name
		}
	}
	return ""
}

// refuseMisplaced returns an error for an option of dblocker that is left in the inner DSN. Of
// the parameters of PostgreSQL that are called like options the log says where those go.
func refuseMisplaced(d *server.Engine, dsn string, logger *slog.Logger) error {
	if d.ParamNames == nil {
		return nil
	}
	for _, name := range d.ParamNames(dsn) {
		switch {
		case !isOption(name):
		case slices.Contains(d.OwnParams, name):
			logger.Info("dblocker: a parameter of the DSN is PostgreSQL's own, and not the option of dblocker that has the same name; the option stands before the colon of the driver dblocker",
				"parameter", name, "option", "postgres?"+name+"=5s:postgres://...")
		default:
			return fmt.Errorf("dblocker: %s is an option of dblocker, and it stands in the DSN of the inner driver, where it does nothing; "+
				"with the driver name dblocker write it before the colon, for example %q; with another driver name give it to dblocker.Register", name, optionExample(d, name))
		}
	}
	return nil
}

// optionExample is a DSN with the option in its place.
func optionExample(d *server.Engine, name string) string {
	value := "..."
	switch name {
	case "lock_timeout":
		value = "5s"
	case "max_open_conns":
		value = "20"
	}
	return fmt.Sprintf(d.Example, name, value)
}
