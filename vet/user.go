package vet

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// User reports a context that is tagged for one user and then for another, in one function: the work for the second is
// inside of the request of the first, which may hold what others wait for who hold what it asks for.
var User = &analysis.Analyzer{
	Name:     "dblockeruser",
	Doc:      "report WithUser on a context that has another user already",
	URL:      page + "#user",
	Run:      runUser,
	Requires: []*analysis.Analyzer{inspect.Analyzer},
}

func runUser(pass *analysis.Pass) (any, error) {
	if !imports(pass.Pkg, ours) {
		return nil, nil
	}
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		if !isOf(f, ours, "WithUser") || len(call.Args) != 2 || inTest(pass, call) {
			return
		}
		v := identObject(pass.TypesInfo, call.Args[0])
		all := functions(stack)
		if v == nil || len(all) == 0 {
			return
		}
		from := sources(pass, v, all[len(all)-1].body())
		if loop := loopOf(pass, v, stack); loop != nil && onlyOne(from, loop) {
			pass.ReportRangef(call, "each turn of the loop tags the context of the one before, so that one request works for all these users; keep the outer context, and make one for each turn: ctx := dblocker.WithUser(outer, id)")
			return
		}
		if len(from) != 1 || from[0].call == call {
			return // it is not known which of them it comes from
		}
		id := userOf(pass, from[0].call, from[0].stmt, call.Pos(), all[len(all)-1].body())
		if id != nil && !sameUser(pass, id, call.Args[1]) {
			pass.ReportRangef(call, "the context is tagged for the user %s already; tag the context from before that, or lock both users by dblocker.LockUsers", types.ExprString(id))
		}
	})
	return nil, nil
}

// A source is an assignment that a variable has its value from.
type source struct {
	stmt ast.Node
	call *ast.CallExpr // nil if it is none
}

// sources returns all assignments of a variable in a function.
func sources(pass *analysis.Pass, v *types.Var, body *ast.BlockStmt) (all []source) {
	ast.Inspect(body, func(n ast.Node) bool {
		s, ok := n.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for i, e := range s.Lhs {
			if identObject(pass.TypesInfo, e) != v {
				continue
			}
			from := s.Rhs[0]
			if len(s.Rhs) == len(s.Lhs) {
				from = s.Rhs[i]
			}
			call, _ := ast.Unparen(from).(*ast.CallExpr)
			all = append(all, source{s, call})
		}
		return true
	})
	return all
}

// userOf returns the user that a call which comes before the given place has tagged a context with: by WithUser, or inside a
// section of such a context; nil if it has not.
func userOf(pass *analysis.Pass, call *ast.CallExpr, stmt ast.Node, before token.Pos, body *ast.BlockStmt) ast.Expr {
	for range 10 {
		if call == nil || stmt.Pos() > before || len(call.Args) < 2 {
			return nil
		}
		f := calleeOf(pass.TypesInfo, call)
		switch {
		case isOf(f, ours, "WithUser"):
			return call.Args[1]
		case isOf(f, ours, "Lock", "RLock", "TryLock", "TryRLock", "Fork"), isOf(f, "context", "WithTimeout", "WithDeadline", "WithCancel", "WithValue"):
		default:
			return nil
		}
		v := identObject(pass.TypesInfo, call.Args[0])
		if v == nil {
			if inner, ok := ast.Unparen(call.Args[0]).(*ast.CallExpr); ok {
				call = inner
				continue
			}
			return nil
		}
		from := sources(pass, v, body)
		if len(from) != 1 || from[0].call == call {
			return nil
		}
		call, stmt = from[0].call, from[0].stmt
	}
	return nil
}

// sameUser tells whether two expressions are of the same user, as far as the text says.
func sameUser(pass *analysis.Pass, a, b ast.Expr) bool {
	if x, y := pass.TypesInfo.Types[a].Value, pass.TypesInfo.Types[b].Value; x != nil && y != nil {
		return x.ExactString() == y.ExactString()
	}
	return types.ExprString(a) == types.ExprString(b)
}

// loopOf returns the loop that the call at the end of the stack is in, if the variable is from outside of it and the call sets
// it.
func loopOf(pass *analysis.Pass, v *types.Var, stack []ast.Node) ast.Node {
	sets := false
	for i := len(stack) - 1; i >= 0; i-- {
		switch n := stack[i].(type) {
		case *ast.AssignStmt:
			sets = sets || len(n.Lhs) == 1 && identObject(pass.TypesInfo, n.Lhs[0]) == v && n.Tok == token.ASSIGN
		case *ast.FuncLit, *ast.FuncDecl:
			return nil
		case *ast.ForStmt, *ast.RangeStmt:
			if sets && (v.Pos() < n.Pos() || v.Pos() >= n.End()) {
				return n
			}
			return nil
		}
	}
	return nil
}

// onlyOne tells whether a loop sets a variable once: nothing in it sets it back.
func onlyOne(from []source, loop ast.Node) bool {
	n := 0
	for _, s := range from {
		if loop.Pos() <= s.stmt.Pos() && s.stmt.Pos() < loop.End() {
			n++
		}
	}
	return n == 1
}
