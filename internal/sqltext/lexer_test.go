package sqltext

import (
	"strings"
	"testing"
)

// Each row hides a writing verb in a comment or a string, or shows that it is in none. A row with the set 0 promises
// a Write everywhere.
func TestComments(t *testing.T) {
	checkKinds(t, []kindRow{
		{"-- c\nSELECT 1", in3, Read},
		{"SELECT 1 -- ; DELETE FROM t", in3, Read},
		{"SELECT 1 --", in3, Read},
		{"SELECT 1 --\t; DELETE FROM t", in3, Read},
		{"SELECT 1 --; DELETE FROM t", inS | inP, Read},
		{"SELECT 1 --x\n", in3, Read}, // to MySQL: minus minus x
		{"SELECT 1 -- c\r; DELETE FROM t", inS | inM, Read},
		{"SELECT 1 -- c\n; DELETE FROM t", 0, Read},
		{"SELECT 1 # ; DELETE FROM t", inM, Read},
		{"SELECT 1 # c\n; DELETE FROM t", 0, Read},
		{"# c\nSELECT 1", inM, Read},
		{"SELECT a #> '{b}' FROM t", in3, Read},

		{"/* c */ SELECT /* ; DELETE FROM t */ 1", in3, Read},
		{"SELECT/**/1/**/FROM/**/t", in3, Read},
		{"SELECT 2*/* c */3", in3, Read},
		{"/*/ DELETE FROM t; */ SELECT 1", in3, Read},
		{"/* /* */ SELECT 1", inS | inM, Read},
		{"/* /* */ */ SELECT 1", inP, Read},
		{"SELECT 1 /* /* */ ; DELETE FROM t -- */ */", inP, Read},
		{"SELECT 1 /* c", 0, Read},
		{"SELECT 1 /*", 0, Read},
		{"SELECT 1 /*/", 0, Read},
		{"SELECT 1 /* /* */", inS | inM, Read},
		{"SELECT 1 */", in3, Read},

		{"SELECT 1 /*! INTO @x */", inS | inP, Read},
		{"SELECT /*!50110 1 */", inS | inP, Read},
		{"SELECT /*M! 1 */ + /*M!100100 2 */", inS | inP, Read},
		{"SELECT /*!40001 SQL_NO_CACHE */ * FROM t", in3, Read},
		{"SELECT /*! HIGH_PRIORITY STRAIGHT_JOIN*/ * FROM t", in3, Read},
		{"SELECT /*!40001 SQL_NO_CACHE INTO */ @x", inS | inP, Read},
		{"SELECT GET_LOCK /*! SQL_CACHE */ (f())", inS | inP, Read},
		{"SELECT /*!40001 SQL_NO_CACHE", 0, Read},
		{"SELECT /* ! */ 1 /*+ NO_ICP(t) */ /*M */", in3, Read},
		{"/*!50000 DELETE FROM t */", inS | inP, Empty},
	})
}

func TestStrings(t *testing.T) {
	checkKinds(t, []kindRow{
		{"SELECT 'it''s; DELETE FROM t'", in3, Read},
		{"SELECT '' ; DELETE FROM t", 0, Read},
		{"SELECT '''' , ';'", in3, Read},
		{"SELECT '--', '/*', '#', '$$', '`', '\"'", in3, Read},
		{"SELECT 'a\nb'", in3, Read},
		{"SELECT 'a", 0, Read},
		{"SELECT 'a''", 0, Read},

		// The end of these depends on NO_BACKSLASH_ESCAPES and standard_conforming_strings. They must be whole with the
		// engine's own settings, and read with all others that leave them whole.
		{`SELECT 'it\'s'`, inM, Read},
		{`SELECT "say \"hi\"", 'it\'s' FROM t WHERE a = 'x'`, inM, Read},
		{`SELECT 'a' LIKE 'b' ESCAPE '\'`, inS | inP, Read},
		{`SELECT 'a' LIKE 'b' ESCAPE '\' OR 'c' LIKE 'd' ESCAPE '\'`, inS | inP, Read},
		{`SELECT '\'; DELETE FROM t; -- '`, 0, Read},
		{`SELECT "\"; DELETE FROM t; -- "`, 0, Read},
		{`SELECT '\\\''`, inM, Read},
		{`SELECT '\' INTO u FROM t, 'v'`, 0, Read},
		// The end of these does not.
		{`SELECT 'a\\', 'b\nc', '\\\\'`, in3, Read},
		{`SELECT 'a\\''; DELETE FROM t'`, in3, Read},

		{`SELECT "a""b; DELETE FROM t"`, in3, Read},
		{`SELECT "a\\"`, in3, Read},
		{`SELECT "a\"`, inS | inP, Read},
		{`SELECT "a\"; DELETE FROM t -- "`, 0, Read},
		{`SELECT "a`, 0, Read},
		{"SELECT `a``b; DELETE FROM t` FROM t", inS | inM, Read},
		{"SELECT `a\\` FROM t", in3, Read},
		{"SELECT `a", inP, Read},
		{"SELECT [a; DELETE FROM t", 0, Read},
		{"SELECT [a'], 'b", inP | inM, Read},
		{"SELECT [a'] FROM t", inS, Read},

		{`SELECT E'it\'s; DELETE FROM t'`, inP, Read},
		{`SELECT e'\\'; DELETE FROM t`, 0, Read},
		{`SELECT E'a''b\\\'' , 1`, inP | inM, Read},
		{`SELECT E'a\`, 0, Read},
		{`SELECT E 'a\'`, inS | inP, Read},
		{`SELECT type'a\'`, inS | inP, Read},
		{`SELECT U&'\0061', N'a', X'00', B'1', _utf8'a'`, in3, Read},
		{`SELECT U&"\006eextval"('s')`, inS | inM, Read},
		{`SELECT u & "b" FROM t`, in3, Read},

		{"SELECT $$; DELETE FROM t$$", inP, Read},
		{"SELECT $a$ $$ $b$ ' ; DELETE FROM t $a$", inP, Read},
		{"SELECT $é1$'$é1$", inP, Read},
		{"SELECT $a$ $A$", inS | inM, Read},
		{"SELECT a$b$ FROM t; DELETE FROM t$b$", 0, Read},
		{"SELECT $1$2, $3", in3, Read},
		{"SELECT $1a$ FROM t", in3, Read},
		{"SELECT $", in3, Read},
		{"SELECT 1$a$;$a$", inP, Read},
	})
}

func TestCharacters(t *testing.T) {
	checkKinds(t, []kindRow{
		{"SELECT 'é', ü FROM größe -- 日本", in3, Read},
		{"SELECT\u00a01", 0, Read},
		{"\ufeffSELECT 1", inS, Read},
		{"SELECT 1 \ufeff INTO t", 0, Read},
		{"SELECT 1\x00", 0, Read},
		{"SELECT '\x00'", 0, Read},
		{"SELECT '\xff'", 0, Read},
		{"SELECT\v1\f", in3, Read},
		{"ſELECT 1", 0, Read}, // folds to S in Unicode, in no SQL
	})
}

func TestSQLiteVariables(t *testing.T) {
	checkKinds(t, []kindRow{
		{"SELECT :delete, @into, $update, #merge, ?1, ?", inS, Read},
		{"SELECT $a('), 1; DELETE FROM t -- ')", inM | inP, Read},
		{"SELECT $a::b('); DELETE FROM t -- ')", inM | inP, Read},
	})
}

func TestVeryLongAndDeepText(t *testing.T) {
	for _, d := range append(engines, Generic) {
		for _, part := range []string{"(", "'", "/*", "a", "1", ";", "WITH a AS (", "$a$", "\\'"} {
			Classify(d, "SELECT "+strings.Repeat(part, 100_000))
			Classify(d, strings.Repeat(part, 100_000))
		}
	}
}
