package sqltext

import "testing"

func TestCombines(t *testing.T) {
	for _, query := range []string{
		"UPDATE t SET n = n + 1 WHERE id = ?",
		"insert into t values (1, 'changes()', random())",
		"INSERT OR ROLLBACK INTO t(a) SELECT b FROM u -- last_insert_rowid()",
		"REPLACE INTO \"t\" VALUES (:a);",
		"DELETE FROM main.t WHERE a IN (SELECT a FROM b)",
		"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
	} {
		if !Classify(SQLite, query).Combines {
			t.Errorf("%q does not combine", query)
		}
		for _, d := range []Dialect{Generic, PostgreSQL, MySQL} {
			if Classify(d, query).Combines {
				t.Errorf("%q combines in %v", query, d)
			}
		}
	}
	for _, query := range []string{
		"", "SELECT 1", "BEGIN", "PRAGMA user_version = 1", "VACUUM", "ATTACH 'a' AS b", "CREATE TABLE t (a)", "ANALYZE",
		"UPDATE t SET a = 1; UPDATE t SET b = 1",
		"UPDATE t SET a = 1; SELECT 1",
		"INSERT INTO t VALUES (last_insert_rowid())",
		"INSERT INTO t VALUES (Last_Insert_RowID ())",
		"INSERT INTO t VALUES (\"changes\"())",
		"UPDATE t SET a = [total_changes]()",
		"DELETE FROM t RETURNING a",
		"INSERT INTO temp.t VALUES (1)",
		"INSERT INTO `temp`.t VALUES (1)",
		"UPDATE sqlite_schema SET sql = ''",
		"DELETE FROM sqlite_sequence",
		"INSERT INTO t SELECT * FROM pragma_optimize",
		"INSERT INTO t SELECT load_extension('x')",
		"INSERT INTO t VALUES ('a",
		"INSERT INTO 'temp'.t VALUES (1)",
	} {
		if Classify(SQLite, query).Combines {
			t.Errorf("%q combines", query)
		}
	}
}

func TestTook(t *testing.T) {
	c := NewCache(SQLite)
	const query = "UPDATE t SET n = 1"
	if c.Took(query) != nil {
		t.Error("a text is known that was never seen")
	}
	c.Classify(query)
	c.Classify(query)
	took := c.Took(query)
	if took == nil || took.Load() != 0 {
		t.Fatalf("got %v, want one that is not known yet", took)
	}
	took.Store(7)
	if c.Took(query).Load() != 7 {
		t.Error("it was forgotten")
	}
}
