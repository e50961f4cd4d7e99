package vet

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// NoContext reports calls without a context on a handle of dblocker, where the request's is at hand: they have no user, and take no
// lock. With the flag everywhere it reports them in functions without a request too. Tests, and the functions in which a program
// begins, are left out.
var NoContext = &analysis.Analyzer{
	Name:     "dblockernocontext",
	Doc:      "report calls without a context on a handle of dblocker, which take no user's lock",
	URL:      page + "#nocontext",
	Run:      runNoContext,
	Requires: []*analysis.Analyzer{inspect.Analyzer, handles},
}

// Background reports contexts without a user where the request's is at hand.
var Background = &analysis.Analyzer{
	Name:     "dblockerbackground",
	Doc:      "report context.Background or TODO for a call of the database in a function that has a request",
	URL:      page + "#background",
	Run:      runBackground,
	Requires: []*analysis.Analyzer{inspect.Analyzer, handles},
}

// settings are what the flags say.
type settings struct {
	all        bool // every handle is one of dblocker
	everywhere bool // NoContext looks at functions without a request too
}

var given settings

// settingsFor returns them for a package. It is changed by a test only.
var settingsFor = func(*types.Package) settings { return given }

func init() {
	NoContext.Flags.BoolVar(&given.everywhere, "everywhere", false, "report calls in functions without a request too")
	for _, a := range []*analysis.Analyzer{NoContext, Background, Pool, Fork} {
		a.Flags.BoolVar(&given.all, "all", false, "take every *sql.DB and *sqlx.DB for a handle of dblocker")
	}
}

// withContext are the methods of handles that take a user's lock and no context, each with its form that has one.
var withContext = map[string]string{
	"Query": "QueryContext", "QueryRow": "QueryRowContext", "Exec": "ExecContext", "Begin": "BeginTx",
	"Queryx": "QueryxContext", "QueryRowx": "QueryRowxContext", "NamedQuery": "NamedQueryContext", "NamedExec": "NamedExecContext",
	"Get": "GetContext", "Select": "SelectContext", "MustExec": "MustExecContext", "Beginx": "BeginTxx", "MustBegin": "MustBeginTx",
}

func runNoContext(pass *analysis.Pass) (any, error) {
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
		if !ok || inTest(pass, call) || startsUp(stack) {
			return
		}
		better, known := withContext[f.Name()]
		h := pass.ResultOf[handles].(*handleSet)
		if !known || receiverOf(f) != "DB" || !isOf(f, sqlPkg) && !isOf(f, sqlxPkg) || !h.matches(sel.X) {
			return
		}
		if !settingsFor(pass.Pkg).everywhere && (request(pass, stack) == "" || isOfNobody(queryOf(pass, call, f)) || inDeferred(stack)) {
			return // it may be of the start or of the end of the program
		}
		d := analysis.Diagnostic{Pos: call.Pos(), End: call.End(),
			Message: fmt.Sprintf("%s has no context, so no user, and takes no lock; write %s with the request's context, or with one of dblocker.WithoutUser for work that belongs to no user", f.Name(), better)}
		if ctx := contextAt(pass, stack); ctx != "" && canPass(pass, sel, call, better) {
			d.SuggestedFixes = []analysis.SuggestedFix{passContext(sel, call, better, ctx)}
		}
		pass.Report(d)
	})
	return nil, nil
}

// isOfNobody tells whether a text changes the schema, or concerns nothing but the session.
func isOfNobody(query string) bool {
	for _, d := range dialects {
		if st := sqltext.Classify(d, query); query != "" && st.Verb != "" && (st.DDL || st.Kind == sqltext.Session) {
			return true
		}
	}
	return false
}

// inDeferred tells whether the stack is in a function that is deferred, when the context may have ended.
func inDeferred(stack []ast.Node) bool {
	for i := 2; i < len(stack); i++ {
		if _, ok := stack[i].(*ast.FuncLit); ok {
			if _, ok := stack[i-2].(*ast.DeferStmt); ok {
				return true
			}
		}
	}
	return false
}

// canPass tells whether the form that has a context can be written in place of a call: not with the results of a call as all arguments, nor
// on a type that has a method of that name itself.
func canPass(pass *analysis.Pass, sel *ast.SelectorExpr, call *ast.CallExpr, better string) bool {
	for _, arg := range call.Args {
		if _, several := pass.TypesInfo.TypeOf(arg).(*types.Tuple); several {
			return false
		}
	}
	obj, _, _ := types.LookupFieldOrMethod(pass.TypesInfo.TypeOf(sel.X), true, pass.Pkg, better)
	f, ok := obj.(*types.Func)
	return ok && (isOf(f, sqlPkg) || isOf(f, sqlxPkg))
}

// passContext writes the form of a method that has a context.
func passContext(sel *ast.SelectorExpr, call *ast.CallExpr, better, ctx string) analysis.SuggestedFix {
	arg := ctx
	switch {
	case strings.HasPrefix(sel.Sel.Name, "Begin"), sel.Sel.Name == "MustBegin":
		arg += ", nil"
	case len(call.Args) > 0:
		arg += ", "
	}
	return analysis.SuggestedFix{Message: "pass " + ctx, TextEdits: []analysis.TextEdit{
		{Pos: sel.Sel.Pos(), End: sel.Sel.End(), NewText: []byte(better)},
		{Pos: call.Lparen + 1, End: call.Lparen + 1, NewText: []byte(arg)},
	}}
}

func runBackground(pass *analysis.Pass) (any, error) {
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		if inTest(pass, call) || startsUp(stack) || !takesLock(pass, call, f) && !passesHandle(pass, call, f) {
			return
		}
		for _, arg := range call.Args {
			bare := backgroundOf(pass, arg, stack)
			ctx := request(pass, stack)
			if bare == nil || ctx == "" || inGo(stack) && !strings.HasSuffix(ctx, ".Context()") { // that may be work of the whole program
				continue
			}
			keep := outliving(pass, ctx, stack)
			d := analysis.Diagnostic{Pos: arg.Pos(), End: arg.End(),
				Message: fmt.Sprintf("%s has no user, and %s is at hand; pass that, or %s if the work is to outlive the request", types.ExprString(arg), ctx, keep)}
			if fun, ok := ast.Unparen(bare.Fun).(*ast.SelectorExpr); ok && !forksTwice(stack, bare) && ast.Unparen(arg) == ast.Expr(bare) && types.ExprString(fun.X) == "context" {
				d.SuggestedFixes = []analysis.SuggestedFix{{Message: "pass " + keep, TextEdits: []analysis.TextEdit{{Pos: bare.Pos(), End: bare.End(), NewText: []byte(keep)}}}}
			}
			pass.Report(d)
		}
	})
	return nil, nil
}

// outliving is how the request's context is written where it is to have no end; in a goroutine it is forked too.
func outliving(pass *analysis.Pass, ctx string, stack []ast.Node) string {
	if name := nameOfPackage(pass, stack); name != "" && inGo(stack) {
		ctx = fmt.Sprintf("%s.Fork(%s)", name, ctx)
	}
	return fmt.Sprintf("context.WithoutCancel(%s)", ctx)
}

// forksTwice tells whether the fix of a call would be one of several in a goroutine, of which each would fork another owner.
func forksTwice(stack []ast.Node, bare ast.Expr) bool {
	return slices.ContainsFunc(stack, func(n ast.Node) bool {
		g, ok := n.(*ast.GoStmt)
		return ok && times(g, bare) > 1
	})
}

// inGo tells whether the stack is in a go statement.
func inGo(stack []ast.Node) bool {
	return slices.ContainsFunc(stack, func(n ast.Node) bool {
		_, ok := n.(*ast.GoStmt)
		return ok
	})
}

// backgroundOf returns the call of Background or TODO that a context comes from, through variables that are set once, and functions of package
// context; nil if it comes from elsewhere.
func backgroundOf(pass *analysis.Pass, e ast.Expr, stack []ast.Node) *ast.CallExpr {
	all := functions(stack)
	for range 10 { // a variable may be made of itself
		switch at := ast.Unparen(e).(type) {
		case *ast.CallExpr:
			f := calleeOf(pass.TypesInfo, at)
			if isOf(f, "context", "Background", "TODO") {
				return at
			}
			if !isOf(f, "context") || len(at.Args) == 0 || f.Name() == "WithValue" { // which may put the user in
				return nil
			}
			e = at.Args[0]
		case *ast.Ident:
			v := identObject(pass.TypesInfo, at)
			if v == nil || slices.ContainsFunc(all, func(f fn) bool { return f.typ().Pos() <= v.Pos() && v.Pos() < f.typ().End() }) {
				return nil // a parameter, which has a value already
			}
			from, ok := onlySource(pass, v, at, all[len(all)-1].body())
			if !ok {
				return nil
			}
			e = from.call
		default:
			return nil
		}
	}
	return nil
}

// eachCall calls f for each call of a function or method, with the nodes around it and itself.
func eachCall(pass *analysis.Pass, f func(call *ast.CallExpr, callee *types.Func, stack []ast.Node)) {
	in := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	in.WithStack([]ast.Node{(*ast.CallExpr)(nil)}, func(n ast.Node, push bool, stack []ast.Node) bool {
		if call := n.(*ast.CallExpr); push {
			if callee := calleeOf(pass.TypesInfo, call); callee != nil {
				f(call, callee, stack)
			}
		}
		return true
	})
}

// takesLock tells whether a call is one of a handle of dblocker by a context, or of a function of dblocker that takes a lock.
func takesLock(pass *analysis.Pass, call *ast.CallExpr, f *types.Func) bool {
	if isOf(f, ours) {
		return endOf(f) >= 0 || isOf(f, ours, "Do", "RDo", "ReadDo", "RWDo")
	}
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	return ok && receiverOf(f) == "DB" && hasContextForm(f) && pass.ResultOf[handles].(*handleSet).matches(sel.X)
}

// passesHandle tells whether a call passes a handle of dblocker on, to a function that is not of dblocker.
func passesHandle(pass *analysis.Pass, call *ast.CallExpr, f *types.Func) bool {
	h := pass.ResultOf[handles].(*handleSet)
	return !isOf(f, ours) && slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return isHandleType(pass.TypesInfo.TypeOf(arg)) && h.matches(arg) })
}

// hasContextForm tells whether a method of a handle is one that takes a lock and has a context.
func hasContextForm(f *types.Func) bool {
	if !isOf(f, sqlPkg) && !isOf(f, sqlxPkg) {
		return false
	}
	for _, name := range withContext {
		if f.Name() == name {
			return true
		}
	}
	return f.Name() == "Conn" || f.Name() == "Connx"
}
