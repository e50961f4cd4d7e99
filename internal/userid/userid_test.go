package userid

import (
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
)

// hostile are IDs that would do harm as they are.
var hostile = []string{
	"..", ".", "../../etc/passwd", "/etc/passwd", `..\..\windows`, "C:", "a/b", "/", "~", "-rf",
	"\x00", "a\x00b", "\n", "a\r\nb", "\t", " ", " a ", "a b", "\x7f", "\x1b[2J",
	"'", `"`, "`", `\`, "' OR 1=1 --", `"; DROP TABLE users`, "$user", `"$user",public`, "a,b",
	"?", "?_fk=0", "&sslmode=disable", "a&_journal_mode=DELETE", "%", "%2e%2e%2f", "%00", "#", "a=b", " host=evil", "a' host='evil", "@", ":", "a:b@tcp(evil)/x", "(", ")", "{user}", "${HOME}", "*", "[", "|", ";",
	"con", "CON", "nul", "NUL.txt", "aux", "prn", "com1", "COM1.db", "lpt1", "lpt9.tar.gz", "conin$", "clock$",
	"ser", "nion", "pdate", // give words of SQL
	"Ann", "ann", "ANN", "aNN", "ß", "ẞ", "ss", "SS", "ſ", "s", "İ", "i", "ı", "I", "K", "k", "\u212a",
	"\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\ufb01", "fi", "\u200b", "a\u200b", "\u202e", "\ufeff",
	"\xff", "\xc3", "\xc3\x28", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xffb",
	"_", "__", "_a", "a_b", "a__b", "-", "--", "a-b", "_0", "_041", "u", "u27", "u_a", "0", "-1", "00", "1e3",
	strings.Repeat("a", 10<<10), strings.Repeat("../", 3<<10), strings.Repeat("é", 1000),
}

// TestNames: what is usual stays readable, and the form never changes, since databases have these names.
func TestNames(t *testing.T) {
	for user, want := range map[string]string{
		"27":                                   "u27",
		"-1":                                   "u__1",
		"ann":                                  "uann",
		"Ann":                                  "u_ann",
		"550e8400-e29b-41d4-a716-446655440000": "u550e8400__e29b__41d4__a716__446655440000",
		"01ARZ3NDEKTSV4RRFFQ69G5FAV":           "u01_a_r_z3_n_d_e_k_t_s_v4_r_r_f_f_q69_g5_f_a_v",
		"user_2NNEqL2nrIRdJ194ndJqAHwEfxC":     "uuser_05f2_n_n_eq_l2nr_i_rd_j194nd_jq_a_hw_efx_c",
		"auth0|5f7c8ec7":                       "uauth0_07c5f7c8ec7",
		"ann@example.com":                      "uann_040example_02ecom",
		"é":                                    "u_0c3_0a9",
		"e\u0301":                              "ue_0cc_081",
		"../x":                                 "u_02e_02e_02fx",
		"\x00":                                 "u_000",
		"\xff":                                 "u_0ff",
	} {
		if got := Encode(user); got != want {
			t.Errorf("the name of %q is %s, want %s", user, got, want)
		}
	}
}

// TestOtherTextsAreNoNames: a name that Encode does not give is nobody's, so that no file is taken for that of somebody else.
func TestOtherTextsAreNoNames(t *testing.T) {
	for _, name := range []string{
		"", "u", "x27", "27", "U27", "uA", "U_A", "u27 ", " u27", "u27.db", "u27-wal", "u27\x00", "ué", "u/", "u..",
		"u_", "u_A", "u_1", "u_9", "u_0", "u_02", "u_02E", "u_0G0", "u_02é", "ua_",
		"u_061", "u_030", "u_041", "u_02d", // a, 0, A and -, which have shorter forms
	} {
		if user, ok := Decode(name); ok {
			t.Errorf("%q is taken for the name of %q", name, user)
		}
	}
}

// TestHostileIDs: no two meet on whatever file system, and none is more than a name.
func TestHostileIDs(t *testing.T) {
	seen := make(map[string]string)
	for _, user := range hostile {
		checkName(t, user)
		for _, fold := range []func(string) string{strings.ToUpper, strings.ToLower, strings.ToTitle} {
			folded := fold(Encode(user))
			if other, taken := seen[folded]; taken && other != user {
				t.Errorf("%q and %q have the same name %q", Brief(user), Brief(other), folded)
			}
			seen[folded] = user
		}
	}
}

// FuzzNames: two IDs never meet, an ID comes back, a text that is a name is the one of its ID, and DSNs have it as one value.
func FuzzNames(f *testing.F) {
	for i, user := range hostile {
		f.Add(user, hostile[(i+1)%len(hostile)])
	}
	f.Add("A", "_a")
	f.Add("u_041", "u_a")
	f.Fuzz(func(t *testing.T, a, b string) {
		checkName(t, a)
		if a != b && strings.EqualFold(Encode(a), Encode(b)) {
			t.Errorf("%q and %q have the same name %s", a, b, Encode(a))
		}
		if user, ok := Decode(a); ok && Encode(user) != a {
			t.Errorf("%q is taken for the name of %q, which has %q", a, user, Encode(user))
		}
	})
}

var nameForm = regexp.MustCompile(`\A[a-z][a-z0-9_]*\z`)

// checkName checks the name of one ID.
func checkName(t *testing.T, user string) {
	t.Helper()
	name := Encode(user)
	if !nameForm.MatchString(name) {
		t.Fatalf("the name of %q is %q", user, name)
	}
	if got, ok := Decode(name); got != user || ok != (user != "") {
		t.Fatalf("%q is %s, and that is %q, %v", user, name, got, ok)
	}
	if path := filepath.Join("data", name+".db"); filepath.Dir(path) != "data" || filepath.Base(path) != name+".db" || !filepath.IsLocal(path) {
		t.Errorf("%q gives the path %s", user, path)
	}
	checkDSNs(t, name)
}

// checkDSNs puts a name into DSNs, and asks the drivers what they read.
func checkDSNs(t *testing.T, name string) {
	t.Helper()
	for _, dsn := range []string{
		"host=h user=someone dbname=" + name + " search_path=" + name + " sslmode=disable",
		"postgres://someone@h/" + name + "?search_path=" + name + "&sslmode=disable",
	} {
		pg, err := pq.NewConfig(dsn)
		if err != nil {
			t.Fatalf("lib/pq refuses %s: %v", dsn, err)
		}
		if pg.Database != name || pg.Runtime["search_path"] != name || len(pg.Runtime) != 1 || pg.Host != "h" || pg.User != "someone" || pg.SSLMode != "disable" {
			t.Errorf("lib/pq reads %+v in %s", pg, dsn)
		}
	}
	dsn := "someone:secret@tcp(h:3306)/" + name + "?charset=utf8mb4"
	my, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatalf("go-sql-driver/mysql refuses %s: %v", dsn, err)
	}
	if my.DBName != name || my.User != "someone" || my.Addr != "h:3306" || len(my.Params) > 1 {
		t.Errorf("go-sql-driver/mysql reads %+v in %s", my, dsn)
	}
	uri, err := url.Parse("file:data/" + name + ".db?_fk=1")
	if err != nil || uri.Opaque != "data/"+name+".db" || uri.RawQuery != "_fk=1" || uri.Fragment != "" {
		t.Errorf("as a URI it is %+v, %v", uri, err)
	}
}

// TestSQLiteOpensOneFilePerID, in the directory of the DSN, as a path and as a URI.
func TestSQLiteOpensOneFilePerID(t *testing.T) {
	for _, form := range []string{"%s", "file:%s?_busy_timeout=1"} {
		dir, files := t.TempDir(), 0
		for _, user := range hostile {
			name := Encode(user) + ".db"
			if FileName.Check(name, user) != nil {
				continue
			}
			files++
			create(t, strings.Replace(form, "%s", filepath.Join(dir, name), 1))
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("the file of %q: %v", user, err)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != files {
			t.Errorf("%s: %d IDs have %d files", form, files, len(entries))
		}
	}
}

// create makes a SQLite file that is not empty.
func create(t *testing.T, dsn string) {
	t.Helper()
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA user_version = 1"); err != nil {
		t.Errorf("%s: %v", dsn, err)
	}
}
