package sqltext

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// corpus is where fuzzing starts, and a sample for other tests.
var corpus = []string{
	"", ";", "SELECT 1", "select a from t where b = ?", "SELECT 1; DELETE FROM t", "SELECT 1;--c\n",
	"INSERT INTO t VALUES (1) RETURNING a", "WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) DELETE FROM t",
	"WITH a(b) AS MATERIALIZED (DELETE FROM t RETURNING *), c AS NOT MATERIALIZED (SELECT 2) SELECT * FROM a",
	"WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY b SET c CYCLE d SET e USING f SELECT 1",
	"(SELECT 1) UNION (SELECT 2) FOR UPDATE", "SELECT * INTO u FROM t", "SELECT 1 AS as INTO u",
	"SELECT nextval('s')", "SELECT \"lo_unlink\" (1)", "SELECT LAST_INSERT_ID(1)", "SELECT @a := 1",
	"EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN (ANALYZE, BUFFERS) SELECT 1", "ANALYZE FORMAT=JSON SELECT 1",
	"EXPLAIN FORMAT; DELETE FROM t", "DESC t", "PRAGMA main.table_info(t)", "PRAGMA user_version", "SHOW CREATE TABLE t",
	"SELECT 'it''s' /* c /* d */ e */ -- f", "SELECT 'it\\'s'", "SELECT E'it\\'s'", "SELECT $a$ ; $b$ ' $a$",
	"SELECT /*! 1 */ /*!50110 2 */ /*M!100100 3 */", "SELECT /*+ h */ 1 # c", "SELECT 1 --c", "SELECT `a`, [b], \"c\"",
	"SELECT U&\"\\0061\", x'00', b'1', N'c'", "SELECT $a('), 1; DELETE FROM t -- ')", "SELECT :into, @update, $1, ?1",
	"BEGIN IMMEDIATE", "START TRANSACTION READ ONLY", "COMMIT AND NO CHAIN", "ROLLBACK TO SAVEPOINT x", "RELEASE x",
	"BEGIN NOT ATOMIC DELETE FROM t; END", "PREPARE TRANSACTION 'x'", "SET @@autocommit = 0", "CREATE TEMPORARY TABLE t (a int)",
	"CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM u; END", "\ufeffSELECT 1", "SELECT 1\x00", "SELECT '\xbf\\'",
	"SET a = 1, @@session.b = CONCAT('x')", "SET LOCAL a TO b", "SELECT GET_LOCK('a', 1) FROM DUAL", "DO RELEASE_LOCK('a')",
	"SELECT pg_advisory_lock(hashtext($1)::bigint), set_config('a', 'b', false)", "SET @a := 1; SET GLOBAL b = 2", "PRAGMA query_only(on)",
	"SELECT update, delete FROM t", "SELECT coalesce(update, 0)", "DECLARE c CURSOR FOR SELECT 1", "COPY t (a) TO STDOUT",
	"VALUES (1), (2)", "TABLE t", "COPY (DELETE FROM t RETURNING a) TO STDOUT", "SELECT 1INTO t", "SELECT 1.5e3FROM t",
}

const writingVerb = `(INSERT|UPDATE|DELETE|REPLACE|MERGE|CREATE|DROP|ALTER|TRUNCATE|GRANT|REVOKE|CALL|VACUUM|ATTACH|COPY|LOCK|SET)\b`

// The places of a statement: at the beginning, behind a semicolon, as the body of a common table expression, and behind
// a list of them.
var writesSomewhere = []*regexp.Regexp{
	regexp.MustCompile(`^[\s(]*` + writingVerb),
	regexp.MustCompile(`;[\s;(]*` + writingVerb),
	regexp.MustCompile(`^[\s(]*WITH\b[^;]*\bAS\s*(NOT\s+)?(MATERIALIZED\s*)?\([\s(]*` + writingVerb),
	regexp.MustCompile(`^\s*WITH(\s+RECURSIVE)?\s+\w+\s*(\([\w\s,]*\)\s*)?AS\s*\([^()]*\)\s*` + writingVerb),
}

// strip replaces comments by a space and literals, numbers and quoted names by a zero, by the rules of the dialect with the
// default settings of its server. It knows nothing of the lexer that it checks. It reports false for text that has an
// end within quotes or a comment.
func strip(d Dialect, s string) (string, bool) {
	var out strings.Builder
	for s != "" {
		quoted, replacement := quotedPrefix(d, s, out.String())
		switch quoted {
		case 0:
			out.WriteByte(s[0])
			s = s[1:]
		case -1:
			return "", false
		default:
			out.WriteString(replacement)
			s = s[quoted:]
		}
	}
	return out.String(), true
}

var (
	plainString  = regexp.MustCompile(`^'([^']|'')*'`)
	escapeString = regexp.MustCompile(`^'([^'\\]|''|(?s:\\.))*'`)
	doubleQuotes = regexp.MustCompile(`^"([^"]|"")*"`)
	escapeDouble = regexp.MustCompile(`^"([^"\\]|""|(?s:\\.))*"`)
	backticks    = regexp.MustCompile("^`([^`]|``)*`")
	brackets     = regexp.MustCompile(`^\[[^\]]*\]`)
	dollarTag    = regexp.MustCompile(`^\$([\p{L}_\x{80}-\x{10ffff}][\w\x{80}-\x{10ffff}]*)?\$`)
	blockComment = regexp.MustCompile(`^/\*(?s:.*?)\*/`)
	dashComment  = regexp.MustCompile(`^--[^\n]*`)
	postgresDash = regexp.MustCompile(`^--[^\r\n]*`)
	mysqlDash    = regexp.MustCompile(`^(--([\x01-\x20\x7f][^\n]*|$)|#[^\n]*)`)
	number       = regexp.MustCompile(`^\$?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?`)
	nameAtEnd    = regexp.MustCompile(`[\w$\x{80}-\x{10ffff}]$`)
	bareEAtEnd   = regexp.MustCompile(`(^|[^\w$\x{80}-\x{10ffff}])[eE]$`)
)

// quotedPrefix returns the length of the comment or quoted text at the beginning of s, 0 if there is none and -1 if it
// has no end, and what to put in its place. before is the stripped text so far.
func quotedPrefix(d Dialect, s, before string) (int, string) {
	find := func(re *regexp.Regexp, replacement string) (int, string) {
		if loc := re.FindStringIndex(s); loc != nil {
			return loc[1], replacement
		}
		return -1, ""
	}
	switch {
	case strings.HasPrefix(s, "/*") && d == PostgreSQL:
		return nestedComment(s), " "
	case strings.HasPrefix(s, "/*"):
		return find(blockComment, " ")
	case (s[0] == '#' || strings.HasPrefix(s, "--")) && d == MySQL:
		if n, r := find(mysqlDash, " "); n > 0 {
			return n, r
		}
	case strings.HasPrefix(s, "--") && d == PostgreSQL:
		return find(postgresDash, " ")
	case strings.HasPrefix(s, "--"):
		return find(dashComment, " ")
	case s[0] == '\'' && (d == MySQL || d == PostgreSQL && bareEAtEnd.MatchString(before)):
		return find(escapeString, " 0 ")
	case s[0] == '\'':
		return find(plainString, " 0 ")
	case s[0] == '"' && d == MySQL:
		return find(escapeDouble, " 0 ")
	case s[0] == '"':
		return find(doubleQuotes, " 0 ")
	case s[0] == '`' && d != PostgreSQL:
		return find(backticks, " 0 ")
	case s[0] == '[' && d == SQLite:
		return find(brackets, " 0 ")
	case number.MatchString(s) && !nameAtEnd.MatchString(before) && !strings.HasSuffix(before, "@"): // @@0a is a name
		return find(number, " 0 ")
	case s[0] == '$' && d == PostgreSQL && !nameAtEnd.MatchString(before):
		if tag := dollarTag.FindString(s); tag != "" {
			n := strings.Index(s[len(tag):], tag)
			if n < 0 {
				return -1, ""
			}
			return 2*len(tag) + n, " 0 "
		}
	}
	return 0, ""
}

func nestedComment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

var copyOut = regexp.MustCompile(`^[\s;]*COPY\s+([\w$\x{80}-\x{10FFFF}]|\s0\s|\.)+\s*(\([^()]*\)\s*)?TO\s+STDOUT`)

func FuzzClassify(f *testing.F) {
	for _, query := range corpus {
		f.Add(query)
	}
	f.Fuzz(checkClassify)
}

func checkClassify(t *testing.T, query string) {
	readInAll := true
	for _, d := range engines {
		got := Classify(d, query)
		if got.Kind == Session {
			checkSessionStaysInside(t, d, query, got)
		}
		if got.Kind != Read {
			readInAll = false
			continue
		}
		if got.Multi || got.MayBegin || got.MayEnd || got.DDL {
			t.Errorf("%v: %q is a read with effects: %+v", d, query, got)
		}
		checkReadDoesNotWrite(t, d, query)
	}
	if got := Classify(Generic, query); (got.Kind == Read) != readInAll {
		t.Errorf("%q: generic says %v; a read in all dialects: %v", query, got.Kind, readInAll)
	}
}

func checkReadDoesNotWrite(t *testing.T, d Dialect, query string) {
	t.Helper()
	stripped, ok := strip(d, query)
	if !ok {
		t.Errorf("%v: %q is a read, but has an open quote or comment", d, query)
	}
	stripped = inUpperCase(stripped)
	if strings.HasPrefix(strings.TrimSpace(stripped), "EXPLAIN") {
		return // shows what it does not do
	}
	stripped = copyOut.ReplaceAllString(stripped, "SELECT")
	for _, re := range writesSomewhere {
		if at := re.FindString(stripped); at != "" {
			t.Errorf("%v: %q is a read, but has a writing verb at %q", d, query, at)
		}
	}
}

// inUpperCase also makes a space of the vertical tab, which is one to SQL but not to regexp's \s.
func inUpperCase(text string) string {
	return strings.ReplaceAll(strings.ToUpper(text), "\v", " ")
}

// What a statement about the session begins with, and what it never contains unless it is a PREPARE.
var (
	sessionVerb = regexp.MustCompile(`^[\s\x{feff}]*(SET|RESET|USE|LISTEN|UNLISTEN|DISCARD|DEALLOCATE|PREPARE|CLOSE|PRAGMA|HANDLER|SELECT|DO)\b`)
	farOfIt     = regexp.MustCompile(`(?:^|[^\w$\x{80}-\x{10ffff}])(FROM|INTO|GLOBAL|PERSIST|PERSIST_ONLY|AUTOCOMMIT|PASSWORD|NEXTVAL|F\s*\(|SELECT\b.*[\s(,]SELECT)(?:$|[^\w$\x{80}-\x{10ffff}])`)
	variable    = regexp.MustCompile(`(^|[^@])@([\w$.]|\s0\s)+`) // of a user's own, whatever its name; strip makes 0 of digits
	fromDual    = regexp.MustCompile(`\bFROM\s+DUAL\s*$`)
)

func checkSessionStaysInside(t *testing.T, d Dialect, query string, got Statement) {
	t.Helper()
	stripped, ok := strip(d, query)
	if !ok || got.MayBegin || got.MayEnd || got.DDL {
		t.Errorf("%v: %q concerns its session, but has an open quote or effects: %+v", d, query, got)
	}
	for part := range strings.SplitSeq(inUpperCase(stripped), ";") {
		verb := sessionVerb.FindStringSubmatch(part)
		for variable.MatchString(part) {
			part = variable.ReplaceAllString(part, "$1 v")
		}
		switch {
		case strings.TrimSpace(part) == "":
		case verb == nil:
			t.Errorf("%v: %q concerns its session, but has %q", d, query, part)
		case verb[1] == "PREPARE" || d == SQLite || d == MySQL && fromDual.MatchString(part): // SQLite refuses the others
		case farOfIt.MatchString(part):
			t.Errorf("%v: %q concerns its session, but has %q", d, query, farOfIt.FindString(part))
		}
	}
}

// TestRandomFragments finds in a second the combinations of quotes, comments and verbs that byte-wise mutation needs
// hours for.
func TestRandomFragments(t *testing.T) {
	fragments := strings.Split("SELECT 1|SELECT|DELETE FROM t|INSERT INTO t|UPDATE|REPLACE|REPLACE(|DROP TABLE t|INTO|FROM t|AS|"+
		"WITH|WITH a AS (|WITH RECURSIVE a(b) AS (SELECT 1)|MATERIALIZED|SEARCH|CYCLE|SET|USING|EXPLAIN|ANALYZE|FORMAT|FORMAT=|"+
		"EXPLAIN (|DESC|PRAGMA|TABLE|VALUES|SHOW|BEGIN|COMMIT|ROLLBACK TO|nextval(|"+
		"SET a = 1|SET|GET_LOCK('a', 1)|pg_advisory_lock(1)|hashtext(|f(|GLOBAL|AUTOCOMMIT|@@|DO|FROM DUAL|COPY t TO STDOUT|FOR|"+
		"select|E|U&|x|a|1|1.|.|,|=|:|@|?|(|)|(|)|;|;|'|'|''|"+
		"\"|`|[|]|\\|\\|$|$a$|$$|$1|--|--x|-- |#|/*|*/|/*!|/*+|/|\n|\r|\t| |\u00e9|\ufeff|\x00|\xff", "|")
	random := rand.New(rand.NewPCG(1, 2))
	reads, sessions := 0, 0
	texts := 50_000
	if testdb.UnderRace() { // which has nothing to find here, and takes a minute
		texts = 10_000
	}
	for range texts {
		var query strings.Builder
		if random.IntN(2) == 0 {
			query.WriteString("SELECT ")
		}
		for range 1 + random.IntN(12) {
			query.WriteString(fragments[random.IntN(len(fragments))])
			if random.IntN(3) > 0 {
				query.WriteByte(' ')
			}
		}
		checkClassify(t, query.String())
		if Classify(SQLite, query.String()).Kind == Read {
			reads++
		}
		if Classify(MySQL, query.String()).Kind == Session {
			sessions++
		}
	}
	if reads < texts/50 || sessions < texts/250 {
		t.Errorf("only %d of the texts are reads and %d about the session, too few to say anything", reads, sessions)
	}
}

// The oracle must be able to object.
func TestOracleSeesWrites(t *testing.T) {
	for _, query := range []string{
		"DELETE FROM t", "SELECT 'a'; DELETE FROM t", "SELECT 1 /* c */ ;; (UPDATE t", "WITH a AS (SELECT 1) DELETE FROM t",
		"WITH a AS (SELECT 1), b AS NOT MATERIALIZED (INSERT INTO t) SELECT 1",
	} {
		for _, d := range engines {
			stripped, ok := strip(d, query)
			seen := false
			for _, re := range writesSomewhere {
				seen = seen || re.MatchString(stripped)
			}
			if !ok || !seen {
				t.Errorf("%v: the oracle sees no write in %q, stripped %q", d, query, stripped)
			}
		}
	}
}
