package vet

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// Fork reports goroutines that use the request's context: they and the request count as one thread of control, so they
// wait for each other where two requests would, and may wait for themselves. A context is known to be a request's if the function
// has an *http.Request, or tags it by WithUser; or, for parts that are waited for, as by an errgroup, and call the database themselves, if it is a
// parameter. What is passed on may be for work of the whole program.
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
	reported := make(map[ast.Node]bool)
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		direct := takesLock(pass, call, f)
		if inTest(pass, call) || startsUp(stack) || !direct && !passesHandle(pass, call, f) {
			return
		}
		for _, arg := range call.Args {
			v := contextOf(pass, arg)
			if v == nil {
				continue
			}
			g, joined := goroutineOf(pass, v, stack)
			if g == nil || reported[g] || !isOfRequest(pass, v, g, joined && direct, stack) {
				continue
			}
			reported[g] = true
			pass.Report(analysis.Diagnostic{Pos: arg.Pos(), End: arg.End(), SuggestedFixes: forked(pass, arg, g, stack),
				Message: fmt.Sprintf("a goroutine uses the context of its request, so that both count as one and may wait for themselves; give it dblocker.Fork(%s)", types.ExprString(arg))})
		}
	})
	return nil, nil
}

// contextOf returns the variable that an argument is, if it is a context; or the request, if it is the context of one. It is nil for all else.
func contextOf(pass *analysis.Pass, arg ast.Expr) *types.Var {
	if call, ok := ast.Unparen(arg).(*ast.CallExpr); ok {
		sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Context" {
			return nil
		}
		if v := identObject(pass.TypesInfo, sel.X); v != nil && isType(v.Type(), "net/http", "Request") {
			return v
		}
		return nil
	}
	if v := identObject(pass.TypesInfo, arg); v != nil && isContext(v.Type()) {
		return v
	}
	return nil
}

// forked is the fix: the context of the goroutine is forked in its first line, or where it is passed.
func forked(pass *analysis.Pass, arg ast.Expr, g ast.Node, stack []ast.Node) []analysis.SuggestedFix {
	name := nameOfPackage(pass, stack)
	if name == "" {
		return nil
	}
	var edits []analysis.TextEdit
	lit, ok := g.(*ast.FuncLit)
	id, isName := ast.Unparen(arg).(*ast.Ident)
	switch {
	case ok && !isName && times(lit, arg) > 1: // each would be another owner
		return nil
	case !ok || !isName:
		edits = []analysis.TextEdit{{Pos: arg.Pos(), End: arg.Pos(), NewText: []byte(name + ".Fork(")}, {Pos: arg.End(), End: arg.End(), NewText: []byte(")")}}
	case declares(pass, lit, id.Name):
		return nil
	default:
		edits = []analysis.TextEdit{firstLine(pass, stack[0].(*ast.File), lit.Body, fmt.Sprintf("%[1]s := %[2]s.Fork(%[1]s)", id.Name, name))}
	}
	return []analysis.SuggestedFix{{Message: "fork the context", TextEdits: edits}}
}

// times counts an expression, as it is written, in a node.
func times(in ast.Node, e ast.Expr) (n int) {
	text := types.ExprString(e)
	ast.Inspect(in, func(at ast.Node) bool {
		if other, ok := at.(ast.Expr); ok && types.ExprString(other) == text {
			n++
		}
		return true
	})
	return n
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

// goroutineOf returns the function of the goroutine that the stack is in, or the go statement that it ends with, if the variable is from
// outside of it, and whether it is one of several that are waited for.
func goroutineOf(pass *analysis.Pass, v *types.Var, stack []ast.Node) (g ast.Node, joined bool) {
	if s, ok := stack[len(stack)-2].(*ast.GoStmt); ok {
		return s, false
	}
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
func isOfRequest(pass *analysis.Pass, v *types.Var, g ast.Node, joined bool, stack []ast.Node) bool {
	if givenBy(pass, v, stack) != "" {
		return false // of a section, outside of which a fork of it would wait for that
	}
	all := functions(stack)
	outermost := all[len(all)-1]
	tagged, forked := false, false
	within := func(n ast.Node) bool { return g.Pos() <= n.Pos() && n.Pos() < g.End() }
	for _, from := range sources(pass, v, outermost.body()) {
		if from.call == nil {
			continue
		}
		f := calleeOf(pass.TypesInfo, from.call)
		tagged = tagged || isOf(f, ours, "WithUser")
		forked = forked || isOf(f, ours, "Fork", "WithoutUser") || endOf(f) >= 0 || isOf(f, ours, "WithUser") && within(from.stmt)
	}
	if forked {
		return false
	}
	if tagged {
		return isShared(pass, v, within, outermost.body(), stack)
	}
	for _, f := range all {
		if f.lit != nil && ast.Node(f.lit) == g {
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

// isShared tells whether a context is used outside of the goroutine too, or in several of them, since that is begun in a loop and the context is not.
// Else it is the goroutine's own.
func isShared(pass *analysis.Pass, v *types.Var, within func(ast.Node) bool, body *ast.BlockStmt, stack []ast.Node) (shared bool) {
	for _, n := range stack {
		switch n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			shared = shared || !within(n) && v.Pos() < n.Pos()
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if s, ok := n.(*ast.AssignStmt); ok && slices.ContainsFunc(s.Lhs, func(e ast.Expr) bool { return identObject(pass.TypesInfo, e) == v }) {
			return false // where it is made, perhaps of the one before
		}
		id, ok := n.(*ast.Ident)
		shared = shared || ok && pass.TypesInfo.Uses[id] == v && !within(id)
		return !shared
	})
	return shared
}
