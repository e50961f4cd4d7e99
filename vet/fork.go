package vet

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// Fork reports goroutines that use the request's context: they and the request count as one thread of control, so they
// wait for each other where two requests would, and may wait for themselves. A context is known to be a request's if the function
// has an *http.Request, or tags it by WithUser; or, for parts that are waited for, as by an errgroup, if it is a parameter.
var Fork = &analysis.Analyzer{
	Name:     "dblockerfork",
	Doc:      "report goroutines that call the database with the request's context instead of one of dblocker.Fork",
	URL:      page + "#fork",
	Run:      runFork,
	Requires: []*analysis.Analyzer{inspect.Analyzer, handles},
}

func runFork(pass *analysis.Pass) (any, error) {
	if !imports(pass.Pkg, ours) && !settingsFor(pass.Pkg).all {
		return nil, nil
	}
	reported := make(map[*ast.FuncLit]bool)
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		if inTest(pass, call) || startsUp(stack) || !takesLock(pass, call, f) {
			return
		}
		for _, arg := range call.Args {
			v := identObject(pass.TypesInfo, arg)
			if v == nil || !isContext(v.Type()) {
				continue
			}
			lit, joined := goroutineOf(pass, v, stack)
			if lit == nil || reported[lit] || !isOfRequest(pass, v, lit, joined, stack) {
				continue
			}
			reported[lit] = true
			d := analysis.Diagnostic{Pos: arg.Pos(), End: arg.End(),
				Message: fmt.Sprintf("a goroutine uses the context of its request, so that both count as one and may wait for themselves; give it dblocker.Fork(%s)", v.Name())}
			if name := nameOfPackage(pass, stack); name != "" && !declares(pass, lit, v.Name()) {
				edit := firstLine(pass, stack[0].(*ast.File), lit.Body, fmt.Sprintf("%[1]s := %[2]s.Fork(%[1]s)", v.Name(), name))
				d.SuggestedFixes = []analysis.SuggestedFix{{Message: "fork the context", TextEdits: []analysis.TextEdit{edit}}}
			}
			pass.Report(d)
		}
	})
	return nil, nil
}

// declares tells whether the outermost block of a function declares the name itself, so that it cannot be declared there again.
func declares(pass *analysis.Pass, lit *ast.FuncLit, name string) bool {
	scope := pass.TypesInfo.Scopes[lit.Type]
	return scope == nil || scope.Lookup(name) != nil
}

// firstLine writes a line before the first statement of a block: after the comments on the line of its brace.
func firstLine(pass *analysis.Pass, file *ast.File, block *ast.BlockStmt, text string) analysis.TextEdit {
	line := func(p token.Pos) int { return pass.Fset.Position(p).Line }
	at, next := block.Lbrace+1, block.Rbrace
	if len(block.List) > 0 {
		next = block.List[0].Pos()
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if at <= c.Pos() && c.Pos() < next && line(c.Pos()) == line(at) {
				at = c.End()
			}
		}
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if at <= c.Pos() && c.Pos() < next {
				next = c.Pos()
			}
		}
	}
	text = "\n" + text
	if line(next) == line(at) {
		text += "\n"
	}
	return analysis.TextEdit{Pos: at, End: at, NewText: []byte(text)}
}

// goroutineOf returns the function of the goroutine that the stack is in, if the variable is from outside of it, and whether
// it is one of several that are waited for.
func goroutineOf(pass *analysis.Pass, v *types.Var, stack []ast.Node) (lit *ast.FuncLit, joined bool) {
	for i := len(stack) - 1; i >= 2; i-- {
		lit, ok := stack[i].(*ast.FuncLit)
		if !ok {
			continue
		}
		if lit.Pos() <= v.Pos() && v.Pos() < lit.End() {
			return nil, false
		}
		call, ok := stack[i-1].(*ast.CallExpr)
		if !ok {
			continue
		}
		if _, ok := stack[i-2].(*ast.GoStmt); ok && call.Fun == lit {
			return lit, false
		}
		if f := calleeOf(pass.TypesInfo, call); f != nil && call.Fun != lit && f.Signature().Recv() != nil && (f.Name() == "Go" || f.Name() == "TryGo") {
			return lit, true
		}
	}
	return nil, false
}

// isOfRequest tells whether a context belongs to one request, and is not forked already.
func isOfRequest(pass *analysis.Pass, v *types.Var, lit *ast.FuncLit, joined bool, stack []ast.Node) bool {
	all := functions(stack)
	outermost := all[len(all)-1]
	tagged, forked := false, false
	ast.Inspect(outermost.body(), func(n ast.Node) bool {
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
			if call, ok := ast.Unparen(from).(*ast.CallExpr); ok {
				f := calleeOf(pass.TypesInfo, call)
				tagged = tagged || isOf(f, ours, "WithUser")
				forked = forked || isOf(f, ours, "Fork", "WithoutUser") || isOf(f, ours, "WithUser") && lit.Pos() < s.Pos() && s.Pos() < lit.End()
			}
		}
		return true
	})
	if forked {
		return false
	}
	if tagged {
		return true
	}
	for _, f := range all {
		if f.lit == lit {
			continue
		}
		for _, field := range f.typ().Params.List {
			t := pass.TypesInfo.TypeOf(field.Type)
			if isType(t, "net/http", "Request") || joined && isContext(t) {
				return true
			}
		}
	}
	return false
}
