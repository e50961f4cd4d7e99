package dblocker

import (
	"os"
	"reflect"
	"regexp"
	"testing"

	"github.com/calmdocs/dblocker/internal/engines"
)

// TestReadmeDefaults: to set an option to the default that the package documentation and the page of options have changes nothing.
func TestReadmeDefaults(t *testing.T) {
	for file, row := range map[string]string{
		"doc.go":          `(?m)^//\t([a-z]\w+) +[A-Z]\w+ +(\w+)`,
		"docs/options.md": "(?m)^\\| `(\\w+)` \\| `\\w+` \\| [^|]+ \\| [^|`]*`(\\w+)`",
	} {
		source, err := os.ReadFile(file)
		must(t, err)
		tested := make(map[string]bool)
		for _, m := range regexp.MustCompile(row).FindAllStringSubmatch(string(source), -1) {
			if key, value := m[1], m[2]; !hasNoDefault[key] {
				tested[key] = true
				checkDefault(t, file, key, value)
			}
		}
		for _, spec := range optionTable {
			if !tested[spec.key] && !hasNoDefault[spec.key] {
				t.Errorf("%s has no default for %s", file, spec.key)
			}
		}
	}
}

// hasNoDefault are those whose default is no value, or one that the engine has.
var hasNoDefault = map[string]bool{"lockspace": true, "dialect": true, "lock_readers": true, "untagged_database": true}

func checkDefault(t *testing.T, file, key, value string) {
	t.Helper()
	dialect := map[string]string{"max_open_conns": "postgres", "conn_max_lifetime": "mysql", "conn_max_idle_time": "postgres", "cancel_grace": "postgres"}[key]
	if dialect == "" {
		dialect = "sqlite"
	}
	want, err := newConfig(engines.Generic, []Option{Dialect(dialect)})
	must(t, err)
	got, err := newConfig(engines.Generic, []Option{Dialect(dialect), option(key, value)})
	must(t, err)
	got.connTimeout, got.stmtCacheSet, got.durabilitySet, got.maxOpenDatabasesSet, got.maxIdleConnsSet, got.tenantKey = want.connTimeout, false, false, false, false, "" // they tell that it was set
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: the default of %s on %s is not %s", file, key, dialect, value)
	}
}
