package vet

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/ctrlflow"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/cfg"
)

// Unlock reports a section or a handle of a Store that is not given back on some way through the function. Whatever is
// done with the function that ends it counts as a use: a call, a defer, a return, a store. On a way on which the
// error is not nil there is nothing to be given back.
var Unlock = &analysis.Analyzer{
	Name:     "dblockerunlock",
	Doc:      "report the unlock of a dblocker section, or the cancel of a Store's handle, that is discarded or not used on some way",
	URL:      page + "#unlock",
	Run:      runUnlock,
	Requires: []*analysis.Analyzer{inspect.Analyzer, ctrlflow.Analyzer},
}

func runUnlock(pass *analysis.Pass) (any, error) {
	if !imports(pass.Pkg, ours) {
		return nil, nil
	}
	in := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	in.WithStack([]ast.Node{(*ast.CallExpr)(nil)}, func(n ast.Node, push bool, stack []ast.Node) bool {
		if call := n.(*ast.CallExpr); push {
			if i := endOf(calleeOf(pass.TypesInfo, call)); i >= 0 {
				checkUnlock(pass, call, i, stack)
			}
		}
		return true
	})
	return nil, nil
}

// endOf returns which result of a function of dblocker ends what it begins; -1 if none does.
func endOf(f *types.Func) int {
	if !isOf(f, ours) {
		return -1
	}
	results := f.Signature().Results()
	for i := range results.Len() {
		if s, ok := results.At(i).Type().Underlying().(*types.Signature); ok && s.Params().Len() == 0 && s.Results().Len() == 0 {
			return i
		}
	}
	return -1
}

// checkUnlock looks at one call, whose i-th result is to be used.
func checkUnlock(pass *analysis.Pass, call *ast.CallExpr, i int, stack []ast.Node) {
	name := calleeOf(pass.TypesInfo, call).Name()
	stmt, lhs := assigned(stack)
	switch stmt.(type) {
	case *ast.ExprStmt, *ast.GoStmt, *ast.DeferStmt:
		pass.ReportRangef(call, "the function that ends what %s begins is discarded, so that the user's lock is kept until the context ends; call it, best by defer", name)
		return
	}
	if stmt == nil || i >= len(lhs) {
		return // it is passed on
	}
	id, ok := lhs[i].(*ast.Ident)
	if !ok {
		return // it is stored
	}
	if id.Name == "_" && inTest(pass, id) {
		return // it is asked for the error that it should give
	}
	if id.Name == "_" {
		pass.ReportRangef(id, "the function that ends what %s begins is discarded, so that the user's lock is kept until the context ends; call it, best by defer", name)
		return
	}
	v, _ := pass.TypesInfo.ObjectOf(id).(*types.Var)
	all := functions(stack)
	if v == nil || len(all) == 0 || all[0].body() == nil || !(all[0].typ().Pos() <= v.Pos() && v.Pos() < all[0].body().End()) || isMain(pass, all[0]) {
		return // another function uses it, or the program ends with this one
	}
	w := way{pass: pass, end: v, results: resultsOf(pass, all[0]), seen: make(map[step]bool)}
	w.err, w.errAt = errorIn(pass, lhs), stmt
	if last := w.find(graphOf(pass, all[0])); last != nil {
		line := pass.Fset.Position(last.Pos()).Line
		if pass.Fset.File(last.Pos()) != pass.Fset.File(stmt.Pos()) {
			line = pass.Fset.Position(all[0].body().Rbrace).Line
		}
		pass.Report(analysis.Diagnostic{
			Pos: stmt.Pos(), End: stmt.End(),
			Message: fmt.Sprintf("%s, which ends what %s begins, is not used on the way to line %d, so that the user's lock is kept until the context ends; call it, best by defer", id.Name, name, line),
		})
	}
}

// assigned returns the statement that has the call at the end of the stack as its whole right side, and its left side.
func assigned(stack []ast.Node) (stmt ast.Node, lhs []ast.Expr) {
	i := len(stack) - 2
	for i >= 0 {
		if _, ok := stack[i].(*ast.ParenExpr); !ok {
			break
		}
		i--
	}
	if i < 0 {
		return nil, nil
	}
	switch s := stack[i].(type) {
	case *ast.ExprStmt, *ast.GoStmt, *ast.DeferStmt:
		return s, nil
	case *ast.AssignStmt:
		if len(s.Rhs) == 1 {
			return s, s.Lhs
		}
	case *ast.ValueSpec:
		if len(s.Values) == 1 {
			for _, name := range s.Names {
				lhs = append(lhs, name)
			}
			return s, lhs
		}
	}
	return nil, nil
}

// errorIn returns the variable that gets the error; nil if none does.
func errorIn(pass *analysis.Pass, lhs []ast.Expr) *types.Var {
	for _, e := range lhs {
		if v := identObject(pass.TypesInfo, e); v != nil && types.Identical(v.Type(), types.Universe.Lookup("error").Type()) {
			return v
		}
	}
	return nil
}

func isMain(pass *analysis.Pass, f fn) bool {
	return f.decl != nil && f.decl.Recv == nil && f.decl.Name.Name == "main" && pass.Pkg.Name() == "main"
}

func resultsOf(pass *analysis.Pass, f fn) *types.Tuple {
	if f.decl != nil {
		return pass.TypesInfo.Defs[f.decl.Name].(*types.Func).Signature().Results()
	}
	if sig, ok := pass.TypesInfo.TypeOf(f.typ()).(*types.Signature); ok {
		return sig.Results()
	}
	return nil
}

func graphOf(pass *analysis.Pass, f fn) *cfg.CFG {
	cfgs := pass.ResultOf[ctrlflow.Analyzer].(*ctrlflow.CFGs)
	if f.decl != nil {
		return cfgs.FuncDecl(f.decl)
	}
	return cfgs.FuncLit(f.lit)
}

// A way is one from the beginning of a section to a return, or to where what ends it is overwritten, on which nobody uses that.
type way struct {
	pass    *analysis.Pass
	end     *types.Var
	err     *types.Var // not nil on ways on which nothing has begun; nil if nobody keeps the error
	errAt   ast.Node   // where it is set
	results *types.Tuple
	seen    map[step]bool
}

// A step of a way is a block, and whether the error still is that of the beginning.
type step struct {
	block *cfg.Block
	fresh bool
}

// find returns the statement at the end of one; nil if there is none.
func (w *way) find(g *cfg.CFG) ast.Node {
	if g == nil {
		return nil
	}
	for _, b := range g.Blocks {
		for i, n := range b.Nodes {
			if n == w.errAt {
				return w.from(step{b, w.err != nil}, b.Nodes[i+1:])
			}
		}
	}
	return nil
}

// from looks for one through the given nodes of a block.
func (w *way) from(at step, nodes []ast.Node) ast.Node {
	for _, n := range nodes {
		switch {
		case w.uses(n), at.fresh && w.passesErrorOn(n):
			return nil
		case w.sets(n, w.end):
			return n
		}
		at.fresh = at.fresh && !w.sets(n, w.err)
	}
	if ret := at.block.Return(); ret != nil {
		return ret
	}
	for _, next := range w.successors(at, nodes) {
		to := step{next, at.fresh}
		if w.seen[to] {
			continue
		}
		w.seen[to] = true
		if last := w.from(to, next.Nodes); last != nil {
			return last
		}
	}
	return nil
}

// sets tells whether a node gives the variable another value.
func (w *way) sets(n ast.Node, v *types.Var) bool {
	if s, ok := n.(*ast.AssignStmt); ok {
		for _, e := range s.Lhs {
			if identObject(w.pass.TypesInfo, e) == v {
				return true
			}
		}
	}
	return false
}

// passesErrorOn tells whether a node takes the error to a variable: a condition may be one of that, and says then which way it is.
func (w *way) passesErrorOn(n ast.Node) bool {
	var from []ast.Expr
	switch n := n.(type) {
	case *ast.AssignStmt:
		from = n.Rhs
	case *ast.ValueSpec:
		from = n.Values
	}
	return slices.ContainsFunc(from, w.mentionsError)
}

// uses tells whether a node names the variable other than to set it, or returns it by its name as a result.
func (w *way) uses(n ast.Node) (used bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if !w.sets(n, w.end) {
				return true
			}
			for _, e := range n.Rhs {
				used = used || w.uses(e)
			}
			return false
		case *ast.Ident:
			used = used || w.pass.TypesInfo.Uses[n] == w.end
		case *ast.ReturnStmt:
			used = used || n.Results == nil && w.isResult()
		}
		return !used
	})
	return used
}

func (w *way) isResult() bool {
	for i := range w.results.Len() {
		if w.results.At(i) == w.end {
			return true
		}
	}
	return false
}

// successors returns the blocks that follow, but for those on which the error is not nil.
func (w *way) successors(at step, nodes []ast.Node) []*cfg.Block {
	b := at.block
	if !at.fresh || len(b.Succs) != 2 || len(nodes) == 0 {
		return b.Succs
	}
	cond, ok := nodes[len(nodes)-1].(ast.Expr)
	if !ok || !w.mentionsError(cond) {
		return b.Succs
	}
	if op, ok := ast.Unparen(cond).(*ast.BinaryExpr); ok && (isNil(op.X) || isNil(op.Y)) {
		switch op.Op {
		case token.NEQ:
			return b.Succs[1:]
		case token.EQL:
			return b.Succs[:1]
		}
	}
	if call, ok := ast.Unparen(cond).(*ast.CallExpr); ok && isOf(calleeOf(w.pass.TypesInfo, call), "errors", "Is", "As", "AsType") {
		return b.Succs[1:]
	}
	return nil // it is not known which way the error takes
}

func isNil(e ast.Expr) bool {
	id, ok := ast.Unparen(e).(*ast.Ident)
	return ok && id.Name == "nil"
}

func (w *way) mentionsError(e ast.Expr) (does bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && w.pass.TypesInfo.Uses[id] == w.err {
			does = true
		}
		return !does
	})
	return does
}
