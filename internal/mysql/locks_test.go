package mysql

import (
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/server"
)

// TestRefusedServers: a server whose named locks are not those of all who write is refused, in words.
func TestRefusedServers(t *testing.T) {
	for _, tc := range []struct {
		database, version string
		vars              map[string]string
		says              string // "" if it is taken
	}{
		{"app", "10.11.19-MariaDB", map[string]string{"read_only": "OFF", "wsrep_on": "OFF", "wsrep_provider": "none"}, ""},
		{"app", "8.4.0", map[string]string{"read_only": "OFF", "super_read_only": "OFF", "group_replication_group_name": ""}, ""},
		{"app", "8.4.0", map[string]string{"group_replication_group_name": "a-b", "group_replication_single_primary_mode": "ON"}, ""},
		{"", "8.4.0", nil, "needs the name of a database"},
		{"app", "5.7.25-TiDB-v6.2.0", nil, "TiDB"},
		{"app", "8.0.30-Vitess", nil, "Vitess"},
		{"app", "8.4.0", map[string]string{"read_only": "ON"}, "read_only"},
		{"app", "12.0.0-MariaDB", map[string]string{"read_only": "NO_LOCK"}, "read_only"},
		{"app", "8.0.28", map[string]string{"innodb_read_only": "1"}, "read_only"},
		{"app", "10.11.19-MariaDB", map[string]string{"wsrep_on": "ON"}, "Galera"},
		{"app", "8.0.36", map[string]string{"wsrep_on": "OFF", "wsrep_provider": "/usr/lib/galera4/libgalera_smm.so"}, "Galera"},
		{"app", "8.4.0", map[string]string{"group_replication_group_name": "a-b", "group_replication_single_primary_mode": "OFF"}, "several primary servers"},
	} {
		err := refuse(tc.database, tc.version, tc.vars)
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q, %s, %v: got %v, want %q", tc.database, tc.version, tc.vars, err, tc.says)
		}
	}
}

// TestLockNames: names differ by lock and database, are short enough for MySQL, and are the same for who compares them without
// regard to case.
func TestLockNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, database := range []string{"app", "other"} {
		names := append(LockNames(database, server.LockKey{1}, DefaultReaders, false), LockNames(database, server.LockKey{2}, 0, true)...)
		for _, name := range names {
			if len(name) > 64 || name != strings.ToLower(name) {
				t.Errorf("the name %q", name)
			}
			seen[name] = true
		}
	}
	if want := 2*DefaultReaders + 2*(shares+1); len(seen) != want {
		t.Errorf("%d names are different, want %d", len(seen), want)
	}
}
