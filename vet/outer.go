package vet

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// Outer reports the context from outside of a section where the section's is meant: with it a call is not inside the section, and may
// wait for it, which is its own.
var Outer = &analysis.Analyzer{
	Name:     "dblockerouter",
	Doc:      "report the outer context in a call on the database inside a dblocker section",
	URL:      page + "#outer",
	Run:      runOuter,
	Requires: []*analysis.Analyzer{inspect.Analyzer, handles},
}

func runOuter(pass *analysis.Pass) (any, error) {
	if !imports(pass.Pkg, ours) {
		return nil, nil
	}
	in := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	in.WithStack([]ast.Node{(*ast.CallExpr)(nil)}, func(n ast.Node, push bool, stack []ast.Node) bool {
		call := n.(*ast.CallExpr)
		f := calleeOf(pass.TypesInfo, call)
		if !push || !isOf(f, ours) || receiverOf(f) != "" || len(call.Args) < 2 {
			return true
		}
		s := &inside{pass: pass, of: f.Name(), outer: identObject(pass.TypesInfo, call.Args[0]), db: call.Args[1]}
		switch {
		case s.outer == nil || !isContext(s.outer.Type()):
		case isOf(f, ours, "Do", "RDo", "EachUser"):
			s.function(call)
		case endOf(f) >= 0:
			s.statements(stack)
		}
		return true
	})
	return nil, nil
}

// inside is a section, as the source shows it.
type inside struct {
	pass  *analysis.Pass
	of    string       // the function that begins it
	outer *types.Var   // the context that it was begun with
	also  []*types.Var // contexts that are made of that one inside the section
	own   *types.Var   // its own; nil if that is discarded
	end   *types.Var   // what ends it; nil if that is discarded
	db    ast.Expr
}

// function looks at that of a Do, or of EachUser.
func (s *inside) function(call *ast.CallExpr) {
	if len(call.Args) < 3 {
		return
	}
	lit, ok := ast.Unparen(call.Args[2]).(*ast.FuncLit)
	if !ok {
		return
	}
	if params := lit.Type.Params.List; len(params) == 1 && len(params[0].Names) == 1 && params[0].Names[0].Name != "_" {
		s.own, _ = s.pass.TypesInfo.Defs[params[0].Names[0]].(*types.Var)
	}
	s.look(lit.Body)
}

// statements looks at those after the beginning, up to the end.
func (s *inside) statements(stack []ast.Node) {
	stmt, lhs := assigned(stack)
	assign, ok := stmt.(*ast.AssignStmt)
	if !ok || len(lhs) != 3 {
		return
	}
	s.own, s.end = identObject(s.pass.TypesInfo, lhs[0]), identObject(s.pass.TypesInfo, lhs[1])
	if s.own == s.outer {
		return
	}
	if id, ok := lhs[0].(*ast.Ident); ok && id.Name == "_" {
		s.own = nil
	}
	if s.end == nil {
		return // it is not known how long it lasts
	}
	for i, n := range stack {
		if n != assign || i == 0 {
			continue
		}
		list := listOf(stack[i-1])
		for j, at := range list {
			if at == assign {
				s.list(list[j+1:])
			}
		}
	}
}

func listOf(n ast.Node) []ast.Stmt {
	switch n := n.(type) {
	case *ast.BlockStmt:
		return n.List
	case *ast.CaseClause:
		return n.Body
	case *ast.CommClause:
		return n.Body
	}
	return nil
}

// list looks at statements until the section ends or the outer variable gets another value.
func (s *inside) list(stmts []ast.Stmt) {
	for _, stmt := range stmts {
		if _, deferred := stmt.(*ast.DeferStmt); deferred {
			continue
		}
		if s.ends(stmt) {
			return
		}
		s.look(stmt)
		s.derive(stmt)
	}
}

// derive notes the context that a statement makes of the outer one, as context.WithTimeout does.
func (s *inside) derive(stmt ast.Stmt) {
	assign, ok := stmt.(*ast.AssignStmt)
	if !ok || len(assign.Rhs) != 1 {
		return
	}
	call, ok := ast.Unparen(assign.Rhs[0]).(*ast.CallExpr)
	if !ok || !isOf(calleeOf(s.pass.TypesInfo, call), "context") || len(call.Args) == 0 || !s.isOuter(call.Args[0]) {
		return
	}
	if v := identObject(s.pass.TypesInfo, assign.Lhs[0]); v != nil && v != s.own {
		s.also = append(s.also, v)
	}
}

// isOuter tells whether an expression is the outer context, or one that is made of it.
func (s *inside) isOuter(e ast.Expr) bool {
	v := identObject(s.pass.TypesInfo, e)
	return v != nil && (v == s.outer || slices.Contains(s.also, v))
}

// ends tells whether a statement may end the section somewhere, or sets the outer variable: whoever gets the function that ends it may call that.
func (s *inside) ends(stmt ast.Stmt) (does bool) {
	inner := false // in a function literal, whose defers run before it returns
	ast.Inspect(stmt, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			inner = true
		case *ast.DeferStmt:
			return inner
		case *ast.Ident:
			does = does || s.pass.TypesInfo.Uses[n] == s.end
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				does = does || identObject(s.pass.TypesInfo, e) == s.outer
			}
		}
		return !does
	})
	return does
}

// look reports the calls in a node that use the outer context on the section's handle. What runs in another goroutine, or
// later, is left out.
func (s *inside) look(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit, *ast.GoStmt:
			return false
		case *ast.IfStmt:
			if s.isOfFailure(n) {
				if n.Else != nil {
					s.look(n.Else)
				}
				return false
			}
		case *ast.CallExpr:
			s.call(n)
		}
		return true
	})
}

// isOfFailure tells whether a statement may be for the case that the section could not be begun: its condition has an error in it.
func (s *inside) isOfFailure(n *ast.IfStmt) (is bool) {
	if n.Init != nil {
		return false // it is of the error that is set there
	}
	ast.Inspect(n.Cond, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok && !isNil(e) {
			t := s.pass.TypesInfo.TypeOf(e)
			is = is || t != nil && types.Identical(t, types.Universe.Lookup("error").Type())
		}
		return !is
	})
	return is
}

func (s *inside) call(call *ast.CallExpr) {
	f := calleeOf(s.pass.TypesInfo, call)
	if f == nil || isOf(f, ours, "WithUser", "WithoutUser", "Fork", "WithMode") {
		return
	}
	var outer ast.Expr
	onHandle := false
	for _, arg := range call.Args {
		if s.isOuter(arg) {
			outer = arg
		}
		onHandle = onHandle || s.isHandle(arg)
	}
	if sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok && receiverOf(f) == "DB" && hasContextForm(f) {
		onHandle = onHandle || s.isHandle(sel.X)
	}
	if outer == nil || !onHandle {
		return
	}
	name, what := types.ExprString(outer), "is the context"
	if identObject(s.pass.TypesInfo, outer) != s.outer {
		what = "is made of the context"
	}
	d := analysis.Diagnostic{Pos: outer.Pos(), End: outer.End(),
		Message: fmt.Sprintf("%s %s from outside of the section that %s has begun, so the call is not inside of it, and may wait for it; use the section's own context", name, what, s.of)}
	if s.own != nil && s.visible(outer) {
		d.Message += ", " + s.own.Name()
	}
	if s.own != nil && s.visible(outer) && name == s.outer.Name() {
		d.SuggestedFixes = []analysis.SuggestedFix{{Message: "use " + s.own.Name(), TextEdits: []analysis.TextEdit{{Pos: outer.Pos(), End: outer.End(), NewText: []byte(s.own.Name())}}}}
	}
	s.pass.Report(d)
}

func (s *inside) visible(at ast.Expr) bool {
	scope := s.pass.Pkg.Scope().Innermost(at.Pos())
	if scope == nil {
		return false
	}
	_, found := scope.LookupParent(s.own.Name(), at.Pos())
	return found == types.Object(s.own)
}

// isHandle tells whether an expression is the handle of the section.
func (s *inside) isHandle(e ast.Expr) bool {
	obj := objectOf(s.pass.TypesInfo, e)
	return obj != nil && obj == objectOf(s.pass.TypesInfo, s.db) && types.ExprString(e) == types.ExprString(s.db)
}
