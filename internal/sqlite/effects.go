package sqlite

import (
	"strings"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// SetsJournal tells whether a statement may change the journal mode.
func SetsJournal(st sqltext.Statement, text string) bool {
	return st.Kind == sqltext.Write && (st.Verb == "PRAGMA" || st.Multi) &&
		strings.Contains(strings.ToLower(text), "journal_mode")
}

// LeavesWAL tells whether a statement that sets the journal mode asks for another
// than WAL.
func LeavesWAL(text string) bool {
	_, value, _ := strings.Cut(strings.ToLower(text), "journal_mode")
	value = strings.TrimLeft(value, " \t\r\n")
	if value == "" || value[0] != '=' && value[0] != '(' {
		return false
	}
	return !strings.HasPrefix(strings.TrimLeft(value[1:], " \t\r\n'\""), "wal")
}

// WritesRows tells whether a statement does nothing but to write rows of tables.
func WritesRows(st sqltext.Statement) bool {
	if st.Kind != sqltext.Write || st.Multi {
		return false
	}
	switch st.Verb {
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT":
		return true
	}
	return false
}
