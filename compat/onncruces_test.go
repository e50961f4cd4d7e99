//go:build !ncruces

package compat

import (
	"flag"
	"testing"
)

var ncrucesPattern = flag.String("ncruces", `^TestSameAsBare$/^ncruces$|^TestSQLiteIsNeverBusy$/^sqlite3|^TestCombined$/^sqlite3$|^TestGroupSync$/^sqlite3$|^TestNcrucesMemoryDatabase$`,
	"which tests TestOnNcruces runs on ncruces/go-sqlite3; . is all of them, which takes minutes")

// TestOnNcruces runs tests of this package in a build with github.com/ncruces/go-sqlite3 in place of mattn/go-sqlite3.
func TestOnNcruces(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another SQLite")
	}
	t.Log(run(t, "go", "test", "-tags", "ncruces,dblocker_noinner", "-count=1", "-run", *ncrucesPattern, "."))
}
