package vet

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"

	"github.com/calmdocs/dblocker/internal/dsnparts"
	"github.com/calmdocs/dblocker/internal/engines"
)

// DSN reports constant data source names that dblocker refuses when they are opened: an option that is unknown, or that stands
// in the DSN of the inner driver, where it does nothing.
var DSN = &analysis.Analyzer{
	Name:     "dblockerdsn",
	Doc:      "report options in the wrong place of a dblocker data source name, and unknown ones",
	URL:      page + "#dsn",
	Run:      runDSN,
	Requires: []*analysis.Analyzer{inspect.Analyzer},
}

// options are those that a DSN takes. TestOptionsAreThoseOfDblocker keeps the list.
var options = []string{
	"lock_timeout", "self_wait", "spill_limit", "spill_total", "trace", "combine", "durability", "statement_timeout", "cancel_grace", "stmt_cache",
	"max_open_conns", "max_idle_conns", "conn_max_lifetime", "conn_max_idle_time", "debug_after", "untagged", "max_open_databases", "database_idle",
	"create", "untagged_database", "lockspace", "lock_scope", "lock_readers", "pooler", "dialect",
}

func runDSN(pass *analysis.Pass) (any, error) {
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		i := -1 // of the argument that names the driver
		switch {
		case isOf(f, sqlPkg, "Open"), isOf(f, sqlxPkg, "Open", "MustOpen", "Connect", "MustConnect"):
			i = 0
		case isOf(f, sqlxPkg, "ConnectContext"), isOf(f, ours, "New"):
			i = 1
		case isOf(f, ours, "Openx"):
			i = 0
		}
		if i < 0 || len(call.Args) < i+2 || inTest(pass, call) {
			return
		}
		driver, known := constantOf(pass.TypesInfo, call.Args[i])
		dsn, isConstant := constantOf(pass.TypesInfo, call.Args[i+1])
		if !known || !isConstant {
			return
		}
		name, named := strings.CutSuffix(driver, "-dblocker")
		switch {
		case driver == "dblocker":
			checkDSN(pass, call.Args[i+1], dsn)
		case named, f.Pkg().Path() == ours:
			checkInner(pass, call.Args[i+1], engines.DriverName(name), dsn, dsn, "")
		}
	})
	return nil, nil
}

// checkDSN looks at one of the driver dblocker: driver[?options]:inner-dsn.
func checkDSN(pass *analysis.Pass, arg ast.Expr, dsn string) {
	head, inner, found := strings.Cut(dsn, ":")
	name, query, _ := strings.Cut(head, "?")
	if !found || name == "" || strings.ContainsAny(name, "=@ /.") {
		pass.ReportRangef(arg, `the data source name has no driver before its first colon; write driver[?options]:inner-dsn, for example "sqlite3:app.db"`)
		return
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		pass.ReportRangef(arg, "the options before the first colon are no URL query (%v); write for example lock_timeout=5s&max_open_conns=20", err)
		return
	}
	for _, key := range sortedKeys(values) {
		if !slices.Contains(options, key) {
			pass.ReportRangef(arg, "unknown option %q; known options: %s", key, strings.Join(options, ", "))
		}
	}
	driver, innerDSN, fromURL := engines.Inner(name, inner)
	if fromURL {
		return // its query may have options
	}
	checkInner(pass, arg, driver, innerDSN, dsn, head)
}

func sortedKeys(values url.Values) (keys []string) {
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// checkInner looks at the DSN of the inner driver. head is what stands before it; "" if it is the whole.
func checkInner(pass *analysis.Pass, arg ast.Expr, driver, inner, dsn, head string) {
	engine := engines.Detect(nil, driver)
	if engine.ParamNames == nil || engines.IsURL(inner) {
		return
	}
	for _, name := range engine.ParamNames(inner) {
		if !slices.Contains(options, name) || slices.Contains(engine.OwnParams, name) {
			continue
		}
		d := analysis.Diagnostic{Pos: arg.Pos(), End: arg.End(), Message: fmt.Sprintf(
			"%s is an option of dblocker, and stands in the DSN of the inner driver, where it does nothing; with the driver name dblocker write it before the colon, for example %q",
			name, fmt.Sprintf(engine.Example, name, "..."))}
		if fixed, ok := moved(name, dsn, head); ok {
			d.SuggestedFixes = replaced(arg, fixed)
		}
		pass.Report(d)
		return // the fix of one at a time
	}
}

// moved takes an option from the query of the inner DSN to before the colon.
func moved(name, dsn, head string) (string, bool) {
	inner, ok := strings.CutPrefix(dsn, head+":")
	path, query, hasQuery := strings.Cut(inner, "?")
	if head == "" || !ok || !hasQuery || strings.Contains(query, "?") || strings.Contains(query, "#") {
		return "", false
	}
	var rest []string
	option := ""
	for _, pair := range strings.Split(query, "&") {
		if option == "" && dsnparts.Name(pair) == name {
			option = pair
		} else {
			rest = append(rest, pair)
		}
	}
	if option == "" {
		return "", false
	}
	if strings.Contains(head, "?") {
		head += "&" + option
	} else {
		head += "?" + option
	}
	if len(rest) > 0 {
		path += "?" + strings.Join(rest, "&")
	}
	return head + ":" + path, true
}

// replaced is the fix of a literal; nil if the value is written elsewhere.
func replaced(arg ast.Expr, value string) []analysis.SuggestedFix {
	lit, ok := ast.Unparen(arg).(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return nil
	}
	return []analysis.SuggestedFix{{Message: "move the option", TextEdits: []analysis.TextEdit{{Pos: lit.Pos(), End: lit.End(), NewText: []byte(strconv.Quote(value))}}}}
}
