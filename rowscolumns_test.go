package dblocker

import "testing"

// TestColumnTypesWhileTheSectionEnds: database/sql asks for the types of columns without the
// lock of the connection, so nothing else keeps that apart from the end of the section, which
// closes the rows. The race detector, or a driver written in C, would show it.
func TestColumnTypesWhileTheSectionEnds(t *testing.T) {
	db, _ := openWAL(t, "")
	for range 50 {
		ctx, unlock, err := RLock(asUser(1), db)
		must(t, err)
		rows, err := db.QueryContext(ctx, "SELECT id, v FROM t")
		must(t, err)
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			for range 20 {
				if _, err := rows.ColumnTypes(); err != nil {
					return // database/sql has closed them
				}
			}
		}()
		unlock()
		<-asked
		rows.Close()
	}
}
