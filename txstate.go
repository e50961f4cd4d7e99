package dblocker

import (
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// noteMayBegin makes the server connection doubtful if the statement, which was executed or has failed,
// may have begun a transaction among other things. Of engines that we do not know, statements
// such as EXEC, of which any may, are too common to give up a connection for each.
func (c *conn) noteMayBegin(st sqltext.Statement) {
	if sc := c.drawn.Conn; sc != nil && st.MayBegin {
		saysSo := st.Multi || st.LocksTables || st.Verb == "SET" || st.Verb == "XA" || st.Verb == "BEGIN"
		if saysSo || c.db.dialect != engines.Generic {
			sc.Doubt()
		}
	}
}
