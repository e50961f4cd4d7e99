package vet

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Shared reports constant SQL that writes where dblocker refuses it with ErrReadOnly: in a shared section, by a handle of
// ReadGetDB, and in a transaction that is begun read-only. It asks what dblocker itself asks of a text, and reports only what
// is a write in the dialects of all engines.
var Shared = &analysis.Analyzer{
	Name:     "dblockershared",
	Doc:      "report SQL that writes in a shared dblocker section or a read-only transaction",
	URL:      page + "#shared",
	Run:      runShared,
	Requires: []*analysis.Analyzer{inspect.Analyzer, handles},
}

func runShared(pass *analysis.Pass) (any, error) {
	if !imports(pass.Pkg, ours) {
		return nil, nil
	}
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		if !isOf(f, sqlPkg) && !isOf(f, sqlxPkg) || f.Signature().Recv() == nil || inTest(pass, call) {
			return
		}
		query := queryOf(pass, call, f)
		if query == "" || !writes(query) {
			return
		}
		if where := sharedBy(pass, call, f, stack); where != "" {
			pass.ReportRangef(call, "the statement writes, and %s only reads: dblocker refuses it with ErrReadOnly; use one that writes", where)
		}
	})
	return nil, nil
}

// queryOf returns the constant text that a method is given as its query; "" if it is none.
func queryOf(pass *analysis.Pass, call *ast.CallExpr, f *types.Func) string {
	params := f.Signature().Params()
	for i := range min(params.Len(), len(call.Args)) {
		if params.At(i).Name() == "query" {
			text, _ := constantOf(pass.TypesInfo, call.Args[i])
			return text
		}
	}
	return ""
}

var dialects = []sqltext.Dialect{sqltext.SQLite, sqltext.PostgreSQL, sqltext.MySQL}

// writes tells whether a text is a write in each dialect.
func writes(query string) bool {
	for _, d := range dialects {
		if st := sqltext.Classify(d, query); st.Kind != sqltext.Write || st.Verb == "" {
			return false
		}
	}
	return true
}

// sharedBy says why a call on the database may only read; "" if it may write, or nobody knows.
func sharedBy(pass *analysis.Pass, call *ast.CallExpr, f *types.Func, stack []ast.Node) string {
	all := functions(stack)
	if len(all) == 0 {
		return ""
	}
	body := all[len(all)-1].body()
	for i, arg := range call.Args {
		v := identObject(pass.TypesInfo, arg)
		if i > 0 || v == nil || !isContext(v.Type()) {
			continue
		}
		if from, ok := onlySource(pass, v, call, body); ok && isOf(calleeOf(pass.TypesInfo, from.call), ours, "RLock", "TryRLock") && !endsBetween(pass, from, call, body) {
			return "the section of " + calleeOf(pass.TypesInfo, from.call).Name()
		}
		if name := givenBy(pass, v, stack); name == "RDo" || name == eachShared {
			return "the section of " + name
		}
	}
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	v := identObject(pass.TypesInfo, sel.X)
	if v == nil {
		return ""
	}
	if givenBy(pass, v, stack) == "ReadDo" {
		return "the handle of ReadDo"
	}
	from, ok := onlySource(pass, v, call, body)
	if !ok {
		return ""
	}
	switch by := calleeOf(pass.TypesInfo, from.call); {
	case isOf(by, ours, "ReadGetDB", "Read", "ReadGetDBx") && receiverOf(by) == "Store":
		return "the handle of " + by.Name()
	case receiverOf(f) == "Tx" && isReadOnlyBegin(pass, from.call):
		return "the transaction, which is begun ReadOnly,"
	}
	return ""
}

// onlySource returns the call that a variable has its value from, if that is the only one and comes before.
func onlySource(pass *analysis.Pass, v *types.Var, before ast.Node, body *ast.BlockStmt) (source, bool) {
	all := sources(pass, v, body)
	if len(all) != 1 || all[0].call == nil || all[0].stmt.Pos() > before.Pos() || calleeOf(pass.TypesInfo, all[0].call) == nil {
		return source{}, false
	}
	return all[0], true
}

// endsBetween tells whether a section is ended, not by defer, between its beginning and a call: then the
// variable may mean what it did before.
func endsBetween(pass *analysis.Pass, from source, call ast.Node, body *ast.BlockStmt) (does bool) {
	s, ok := from.stmt.(*ast.AssignStmt)
	if !ok || len(s.Lhs) != 3 {
		return true
	}
	end := identObject(pass.TypesInfo, s.Lhs[1])
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.DeferStmt:
			return false
		case *ast.CallExpr:
			if end != nil && identObject(pass.TypesInfo, n.Fun) == end && s.End() <= n.Pos() && n.Pos() < call.Pos() {
				does = true
			}
		}
		return !does
	})
	return does
}

const eachShared = "EachUser with EachShared"

// hasOption tells whether a call is given what a function of dblocker returns.
func hasOption(pass *analysis.Pass, call *ast.CallExpr, name string) bool {
	for _, arg := range call.Args {
		if by, ok := ast.Unparen(arg).(*ast.CallExpr); ok && isOf(calleeOf(pass.TypesInfo, by), ours, name) {
			return true
		}
	}
	return false
}

// givenBy returns the function of dblocker that calls the function whose parameter the variable is; "" if none does.
func givenBy(pass *analysis.Pass, v *types.Var, stack []ast.Node) string {
	for i := len(stack) - 1; i >= 1; i-- {
		lit, ok := stack[i].(*ast.FuncLit)
		if !ok || v.Pos() < lit.Type.Pos() || v.Pos() >= lit.Body.Pos() {
			continue
		}
		if call, ok := stack[i-1].(*ast.CallExpr); ok {
			if f := calleeOf(pass.TypesInfo, call); isOf(f, ours) {
				if isOf(f, ours, "EachUser") && hasOption(pass, call, "EachShared") {
					return eachShared
				}
				return f.Name()
			}
		}
	}
	return ""
}

// isReadOnlyBegin tells whether a call begins a transaction with options that say ReadOnly.
func isReadOnlyBegin(pass *analysis.Pass, call *ast.CallExpr) bool {
	if f := calleeOf(pass.TypesInfo, call); f == nil || f.Name() != "BeginTx" && f.Name() != "BeginTxx" || len(call.Args) != 2 {
		return false
	}
	if sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); !ok || !pass.ResultOf[handles].(*handleSet).is(sel.X) {
		return false
	}
	ref, ok := ast.Unparen(call.Args[1]).(*ast.UnaryExpr)
	if !ok {
		return false
	}
	lit, ok := ref.X.(*ast.CompositeLit)
	if !ok {
		return false
	}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok && types.ExprString(kv.Key) == "ReadOnly" {
			v := pass.TypesInfo.Types[kv.Value].Value
			return v != nil && v.ExactString() == "true"
		}
	}
	return false
}
