package sqltext

import (
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/testdb"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Parts of texts: %s stands for a text that is made in the same way.
var oracleFrames = []string{
	"%s", "%s", "(%s)", "%s; %s", "WITH a AS (%s) %s", "WITH a AS MATERIALIZED (%s), b (update) AS (%s) SELECT 1", "WITH a AS (WITH b AS (SELECT 1 AS delete) %s) %s",
	"WITH RECURSIVE a (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 3) SEARCH DEPTH FIRST BY x SET o %s",
	"DECLARE c CURSOR FOR %s", "EXPLAIN ANALYZE %s", "EXPLAIN %s", "PREPARE p AS %s", "SELECT (%s)", "SELECT EXISTS (%s)", "SELECT * FROM (%s) AS s",
	"SELECT coalesce(update, false) FROM p UNION ALL %s", "SET a.b = 'x'; %s", "SELECT 'a' LIKE 'b' ESCAPE '\\' UNION ALL %s",
}

var oracleTexts = []string{
	"SELECT 1", "SELECT id, read, update, delete FROM p WHERE insert", "TABLE p", "VALUES (1)", "SELECT count(DISTINCT update) FROM p",
	"SELECT update FROM p FOR UPDATE", "SELECT delete FROM p FOR NO KEY UPDATE", "SELECT id FROM p FOR KEY SHARE", "SELECT id INTO u FROM p",
	"DELETE FROM p RETURNING update", "DELETE FROM p", "UPDATE p SET update = delete RETURNING id", "INSERT INTO p DEFAULT VALUES", "INSERT INTO p (id) VALUES (1) RETURNING delete",
	"MERGE INTO p USING p AS q ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES", "TRUNCATE p", "CREATE TABLE u (a int)", "DROP TABLE p", "ALTER TABLE p ADD z int",
	"SELECT nextval('s')", "SELECT setval('s', 5)", "SELECT \"nextval\"('s')", "SELECT pg_notify('a', 'b')", "NOTIFY a", "SELECT lo_create(0)",
	"SET work_mem = '1MB'", "SET LOCAL search_path TO public", "RESET work_mem", "SELECT set_config('a.b', 'c', false)", "SELECT pg_advisory_xact_lock(hashtext('a')::bigint)",
	"SELECT pg_advisory_xact_lock(nextval('s'))", "SELECT pg_advisory_xact_lock(id) FROM p", "SELECT pg_advisory_unlock((SELECT nextval('s')))",
	"SELECT query_to_xml('SELECT nextval(''s'')', true, false, '')", "FETCH ALL FROM c", "CLOSE c", "DISCARD SEQUENCES", "DEALLOCATE ALL", "LISTEN a", "CALL w()", "DO 'BEGIN DELETE FROM p; END'",
	"SELECT E'a\\'' , 'b'", "SELECT $$;$$", "SHOW ALL", "GRANT SELECT ON p TO public", "REFRESH MATERIALIZED VIEW v", "COMMENT ON TABLE p IS 'x'", "LOCK TABLE p",
}

func oracleText(r *rand.Rand, depth int) string {
	if depth == 0 || r.IntN(3) == 0 {
		return oracleTexts[r.IntN(len(oracleTexts))]
	}
	frame := oracleFrames[r.IntN(len(oracleFrames))]
	for strings.Contains(frame, "%s") {
		frame = strings.Replace(frame, "%s", oracleText(r, depth-1), 1)
	}
	return frame
}

// TestPostgresAgreesOnReads runs texts in read-only transactions: there the server refuses what writes or
// locks rows. It must refuse none that is taken for a read, or for one about the session.
func TestPostgresAgreesOnReads(t *testing.T) {
	db, err := sql.Open("postgres", testdb.Postgres(t).NewDatabase(t).URL())
	must(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, query := range []string{
		"CREATE TABLE p (id serial, read bool, update bool, delete bool, insert bool)", "INSERT INTO p DEFAULT VALUES", "CREATE SEQUENCE s",
		"CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE PROCEDURE w() LANGUAGE sql AS 'DELETE FROM p'",
	} {
		_, err := db.Exec(query)
		must(t, err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var ran, refused [Empty + 1]int
	for range 3000 {
		text := oracleText(r, 3)
		kind := Classify(PostgreSQL, text).Kind
		switch kind {
		case Write, Read, Session:
		default:
			continue
		}
		var pqErr *pq.Error
		switch err := runReadOnly(t, db, text); {
		case errors.As(err, &pqErr) && pqErr.Code == "25006": // read_only_sql_transaction
			refused[kind]++
			if kind != Write {
				t.Errorf("a %v, says the text, but the server: %v: %s", kind, err, text)
			}
		case err == nil:
			ran[kind]++
		}
	}
	t.Logf("writes refused: %d; writes run: %d, reads %d, about the session %d", refused[Write], ran[Write], ran[Read], ran[Session])
	if refused[Write] < 200 || ran[Read] < 100 || ran[Session] < 50 {
		t.Error("too few to say anything")
	}
}

// runReadOnly sends text by itself, and then a FETCH of the cursor that it may have declared.
func runReadOnly(t *testing.T, db *sql.DB, text string) error {
	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	_, err = tx.Exec("SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '5s'")
	must(t, err)
	_, err = tx.Exec(text)
	if err == nil && strings.HasPrefix(text, "DECLARE") {
		_, err = tx.Exec("FETCH ALL FROM c")
	}
	return err
}
