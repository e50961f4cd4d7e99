// Package vet finds, in the source of programs that use dblocker, what the compiler does not: a section that is not left,
// a call that takes no user's lock, a write where only reading is allowed.
//
// Its analyzers run by "go vet -vettool", see the command dblockervet, and in golangci-lint, see the package golangci.
package vet

import (
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/types/typeutil"
)

// Analyzers are all of them.
var Analyzers = []*analysis.Analyzer{Unlock, Outer, NoContext, Background, Fork, User, Pool, Shared, DSN}

const (
	ours    = "github.com/calmdocs/dblocker"
	sqlPkg  = "database/sql"
	sqlxPkg = "github.com/jmoiron/sqlx"
	page    = "https://github.com/calmdocs/dblocker/blob/main/docs/vet.md"
)

// calleeOf returns the function or method that a call names; nil if it is a value.
func calleeOf(info *types.Info, call *ast.CallExpr) *types.Func {
	f, _ := typeutil.Callee(info, call).(*types.Func)
	return f
}

// isOf tells whether a function or method is declared in a package, and has one of the names; any, if there are none.
func isOf(f *types.Func, pkg string, names ...string) bool {
	if f == nil || f.Pkg() == nil || f.Pkg().Path() != pkg {
		return false
	}
	for _, name := range names {
		if f.Name() == name {
			return true
		}
	}
	return len(names) == 0
}

// receiverOf returns the name of the type that a method is declared on, without its package; "" of a function.
func receiverOf(f *types.Func) string {
	if f == nil {
		return ""
	}
	recv := f.Signature().Recv()
	if recv == nil {
		return ""
	}
	if n := named(recv.Type()); n != nil {
		return n.Obj().Name()
	}
	return ""
}

func named(t types.Type) *types.Named {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	n, _ := types.Unalias(t).(*types.Named)
	return n
}

// isType tells whether a type is the named one, or points to it.
func isType(t types.Type, pkg, name string) bool {
	n := named(t)
	return n != nil && n.Obj().Name() == name && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == pkg
}

func isContext(t types.Type) bool { return isType(t, "context", "Context") }

func isHandleType(t types.Type) bool { return isType(t, sqlPkg, "DB") || isType(t, sqlxPkg, "DB") }

// objectOf returns the variable or field that an expression names; nil if it names none.
func objectOf(info *types.Info, e ast.Expr) types.Object {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		if v, ok := info.ObjectOf(e).(*types.Var); ok {
			return v
		}
	case *ast.SelectorExpr:
		if v, ok := info.ObjectOf(e.Sel).(*types.Var); ok {
			return v
		}
	}
	return nil
}

// identObject returns the variable that an expression is; nil if it is more than a name.
func identObject(info *types.Info, e ast.Expr) *types.Var {
	if id, ok := ast.Unparen(e).(*ast.Ident); ok {
		v, _ := info.ObjectOf(id).(*types.Var)
		return v
	}
	return nil
}

// inTest tells whether a node stands in a file of tests.
func inTest(pass *analysis.Pass, n ast.Node) bool {
	return strings.HasSuffix(pass.Fset.File(n.Pos()).Name(), "_test.go")
}

// A fn is a function, declared or literal.
type fn struct {
	decl *ast.FuncDecl // nil of a literal
	lit  *ast.FuncLit
}

func (f fn) typ() *ast.FuncType {
	if f.decl != nil {
		return f.decl.Type
	}
	return f.lit.Type
}

func (f fn) body() *ast.BlockStmt {
	if f.decl != nil {
		return f.decl.Body
	}
	return f.lit.Body
}

// functions returns those that the stack of nodes is inside of, the innermost first.
func functions(stack []ast.Node) (all []fn) {
	for i := len(stack) - 1; i >= 0; i-- {
		switch n := stack[i].(type) {
		case *ast.FuncDecl:
			all = append(all, fn{decl: n})
		case *ast.FuncLit:
			all = append(all, fn{lit: n})
		}
	}
	return all
}

// startsUp tells whether the stack is inside a function in which a program or its tests begin: main, init, TestMain.
func startsUp(stack []ast.Node) bool {
	for _, f := range functions(stack) {
		if f.decl != nil && f.decl.Recv == nil {
			switch f.decl.Name.Name {
			case "main", "init", "TestMain":
				return true
			}
		}
	}
	return false
}

// request returns how the request's context is written at the end of the stack, by the parameters of the functions around it;
// "" if there is none.
func request(pass *analysis.Pass, stack []ast.Node) string {
	at := stack[len(stack)-1].Pos()
	for _, f := range functions(stack) {
		for _, field := range f.typ().Params.List {
			for _, name := range field.Names {
				v, ok := pass.TypesInfo.Defs[name].(*types.Var)
				if !ok || name.Name == "_" || !isVisible(pass, v, stack) {
					continue
				}
				switch {
				case at < f.body().Pos():
				case isContext(v.Type()):
					return name.Name
				case isType(v.Type(), "net/http", "Request"):
					return name.Name + ".Context()"
				}
			}
		}
	}
	return ""
}

// isVisible tells whether the name of a variable means that variable at the end of the stack.
func isVisible(pass *analysis.Pass, v *types.Var, stack []ast.Node) bool {
	at := stack[len(stack)-1].Pos()
	scope := pass.Pkg.Scope().Innermost(at)
	if scope == nil {
		return false
	}
	_, found := scope.LookupParent(v.Name(), at)
	return found == types.Object(v)
}

// contextAt returns the context that was declared last before the end of the stack, or the request's; "" if there is none.
func contextAt(pass *analysis.Pass, stack []ast.Node) string {
	at := stack[len(stack)-1].Pos()
	var last *types.Var
	for scope := pass.Pkg.Scope().Innermost(at); scope != nil && scope != pass.Pkg.Scope(); scope = scope.Parent() {
		for _, name := range scope.Names() {
			v, ok := scope.Lookup(name).(*types.Var)
			if ok && name != "_" && isContext(v.Type()) && v.Pos() < at && isVisible(pass, v, stack) && (last == nil || v.Pos() > last.Pos()) {
				last = v
			}
		}
	}
	if last != nil {
		return last.Name()
	}
	return request(pass, stack)
}

// nameOfPackage returns the name by which a file knows dblocker at the end of the stack; "" if it does not import it, or the name means something else there.
func nameOfPackage(pass *analysis.Pass, stack []ast.Node) string {
	file, ok := stack[0].(*ast.File)
	if !ok {
		return ""
	}
	for _, spec := range file.Imports {
		name := pass.TypesInfo.PkgNameOf(spec)
		if name != nil && name.Imported().Path() == ours && name.Name() != "." && name.Name() != "_" {
			at := stack[len(stack)-1].Pos()
			if scope := pass.Pkg.Scope().Innermost(at); scope != nil {
				if _, found := scope.LookupParent(name.Name(), at); found == types.Object(name) {
					return name.Name()
				}
			}
			return ""
		}
	}
	return ""
}

// imports tells whether a package imports another itself.
func imports(pkg *types.Package, path string) bool {
	for _, p := range pkg.Imports() {
		if p.Path() == path {
			return true
		}
	}
	return false
}
