package sqlite

import (
	"context"
	"strings"

	"github.com/calmdocs/dblocker/internal/server"
)

// IsPlain tells whether a statement of the pool's may run on the connection in one transaction with
// others. It may not where functions or triggers of the program could tell the difference, where
// SQLite finds a violated foreign key no earlier than at the COMMIT, so that one statement could
// mend, or break, what another did, where it has other databases attached, nor without a journal:
// then SQLite cannot undo what others did before one that ends the transaction.
func IsPlain(sc *server.Conn) bool {
	p, _ := sc.Memo.(*plainness)
	if p == nil {
		p = new(plainness)
		sc.Memo = p
	}
	if p.known && p.schema != "" {
		schema, err := Pragma(context.Background(), sc, "schema_version")
		p.known = err == nil && schema == p.schema
	}
	if !p.known {
		p.known, p.plain, p.schema = true, false, ""
		p.plain = p.looks(sc)
	}
	return p.plain
}

// plainness is what IsPlain knows of a connection, until a statement may have changed it.
type plainness struct {
	known, plain bool
	schema       string // the version of the schema that it is true for; "" if for each
}

// ownFunctions are those that SQLite's own extensions have, which are built into the usual drivers.
const ownFunctions = `auth_enabled auth_user_add auth_user_change auth_user_delete authenticate bm25 fts3_tokenizer fts5
	fts5_get_locale fts5_insttoken fts5_locale fts5_source_id geopoly_area geopoly_bbox geopoly_blob geopoly_ccw
	geopoly_contains_point geopoly_debug geopoly_group_bbox geopoly_json geopoly_overlap geopoly_regular geopoly_svg
	geopoly_within geopoly_xform highlight match matchinfo offsets optimize rtreecheck rtreedepth rtreenode snippet`

var looksPlainQuery = `SELECT (SELECT count(*) FROM pragma_function_list WHERE NOT builtin AND name NOT IN ('` +
	strings.Join(strings.Fields(ownFunctions), "', '") + `')), (SELECT count(*) FROM sqlite_temp_master),
	(SELECT foreign_keys FROM pragma_foreign_keys), (SELECT count(*) FROM pragma_database_list WHERE name NOT IN ('main', 'temp'))`

const defersQuery = `SELECT (SELECT schema_version FROM pragma_schema_version),
	(SELECT defer_foreign_keys FROM pragma_defer_foreign_keys), (SELECT count(*) FROM sqlite_master WHERE sql LIKE '%DEFERR%')`

func (p *plainness) looks(sc *server.Conn) bool {
	ctx := context.Background()
	found, err := sc.QueryText(ctx, looksPlainQuery)
	if err != nil || len(found) != 1 || found[0][0] != "0" || found[0][1] != "0" || found[0][3] != "0" {
		return false
	}
	if journal, err := Pragma(ctx, sc, "journal_mode"); err != nil || strings.EqualFold(journal, "off") {
		return false
	}
	if found[0][2] == "0" {
		return true
	}
	defers, err := sc.QueryText(ctx, defersQuery)
	if err != nil || len(defers) != 1 {
		return false
	}
	p.schema = defers[0][0]
	return defers[0][1] == "0" && defers[0][2] == "0"
}
