package vet

import (
	"go/ast"
	"go/constant"
	"go/types"
	"reflect"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// handles finds the variables, fields and functions that have a handle of dblocker: what was opened by its driver or its
// functions, what is passed to them as a Handle, and what those are assigned, passed and returned to. It knows of other packages
// what they export.
var handles = &analysis.Analyzer{
	Name:       "dblockerhandles",
	Doc:        "find the handles of dblocker",
	Run:        findHandles,
	Requires:   []*analysis.Analyzer{inspect.Analyzer},
	FactTypes:  []analysis.Fact{new(isHandle)},
	ResultType: reflect.TypeFor[*handleSet](),
}

// isHandle is the fact of a variable, a field or a function: it is, or returns, a handle of dblocker.
type isHandle struct{}

func (*isHandle) AFact()         {}
func (*isHandle) String() string { return "handle" }

// A handleSet is the handles of a package.
type handleSet struct {
	pass    *analysis.Pass
	objects map[types.Object]bool
	bound   map[types.Object]bool // handles of a Store, which are inside a section whatever the context
	names   map[string]bool       // of drivers, given to Register
	grown   bool
}

func findHandles(pass *analysis.Pass) (any, error) {
	h := &handleSet{pass: pass, objects: make(map[types.Object]bool), bound: make(map[types.Object]bool), names: make(map[string]bool)}
	in := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	for h.grown = true; h.grown; {
		h.grown = false
		in.WithStack([]ast.Node{(*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil), (*ast.CompositeLit)(nil), (*ast.ReturnStmt)(nil), (*ast.CallExpr)(nil)},
			func(n ast.Node, push bool, stack []ast.Node) bool {
				if push {
					h.look(n, stack)
				}
				return true
			})
	}
	for obj := range h.objects {
		if obj.Pkg() == pass.Pkg && !h.bound[obj] {
			pass.ExportObjectFact(obj, new(isHandle))
		}
	}
	return h, nil
}

func (h *handleSet) look(n ast.Node, stack []ast.Node) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		h.assign(n.Lhs, n.Rhs)
	case *ast.ValueSpec:
		names := make([]ast.Expr, len(n.Names))
		for i, name := range n.Names {
			names[i] = name
		}
		h.assign(names, n.Values)
	case *ast.CompositeLit:
		h.literal(n)
	case *ast.ReturnStmt:
		h.returned(n, stack)
	case *ast.CallExpr:
		h.called(n)
	}
}

// assign takes what the right side has to the left.
func (h *handleSet) assign(to, from []ast.Expr) {
	if len(from) == 1 && len(to) > 1 {
		call, ok := ast.Unparen(from[0]).(*ast.CallExpr)
		if !ok {
			return
		}
		for _, one := range to {
			if t := h.pass.TypesInfo.TypeOf(one); t == nil || !isHandleType(t) {
				continue
			}
			if h.opens(call) {
				h.add(objectOf(h.pass.TypesInfo, one))
			} else if isFromStore(calleeOf(h.pass.TypesInfo, call)) {
				h.bind(objectOf(h.pass.TypesInfo, one))
			}
		}
		return
	}
	for i := range min(len(to), len(from)) {
		if h.is(from[i]) {
			h.add(objectOf(h.pass.TypesInfo, to[i]))
		} else if h.isBound(from[i]) {
			h.bind(objectOf(h.pass.TypesInfo, to[i]))
		}
	}
}

// literal takes the values of a struct to its fields.
func (h *handleSet) literal(n *ast.CompositeLit) {
	s, ok := h.pass.TypesInfo.TypeOf(n).Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if h.is(kv.Value) {
				h.add(objectOf(h.pass.TypesInfo, kv.Key))
			}
		} else if i < s.NumFields() && h.is(e) {
			h.add(s.Field(i))
		}
	}
}

func (h *handleSet) returned(n *ast.ReturnStmt, stack []ast.Node) {
	f := functions(stack)[0]
	if f.decl == nil {
		return
	}
	for _, e := range n.Results {
		if call, ok := ast.Unparen(e).(*ast.CallExpr); h.is(e) || ok && h.opens(call) {
			h.add(h.pass.TypesInfo.Defs[f.decl.Name])
		}
	}
}

// called takes arguments to parameters, and learns from what dblocker is given.
func (h *handleSet) called(call *ast.CallExpr) {
	f := calleeOf(h.pass.TypesInfo, call)
	if f == nil {
		return
	}
	if isOf(f, ours, "Register") && len(call.Args) > 0 {
		if name, ok := h.constant(call.Args[0]); ok && !h.names[name] {
			h.names[name], h.grown = true, true
		}
	}
	if isOf(f, ours, "ReadDo", "RWDo") && len(call.Args) > 0 {
		if lit, ok := call.Args[len(call.Args)-1].(*ast.FuncLit); ok {
			for _, field := range lit.Type.Params.List {
				for _, name := range field.Names {
					h.bind(h.pass.TypesInfo.Defs[name])
				}
			}
		}
	}
	params := f.Signature().Params()
	for i, arg := range call.Args {
		if i >= params.Len() || f.Signature().Variadic() && i == params.Len()-1 {
			return
		}
		switch p := params.At(i); {
		case f.Pkg() == nil:
		case f.Pkg().Path() == ours && isType(p.Type(), ours, "Handle"):
			if isHandleType(h.pass.TypesInfo.TypeOf(arg)) {
				h.add(objectOf(h.pass.TypesInfo, arg))
			}
		case f.Pkg() != h.pass.Pkg:
		case h.is(arg):
			h.add(p)
		}
	}
}

func (h *handleSet) add(obj types.Object) {
	if obj != nil && !h.objects[obj] && !h.bound[obj] {
		h.objects[obj], h.grown = true, true
	}
}

func (h *handleSet) bind(obj types.Object) {
	if obj != nil && !h.bound[obj] {
		h.bound[obj], h.grown = true, true
		delete(h.objects, obj)
	}
}

// is tells whether an expression is a handle of dblocker, but none that a Store has given out.
func (h *handleSet) is(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.CallExpr:
		return h.opens(e) && isHandleType(h.pass.TypesInfo.TypeOf(e))
	case *ast.SelectorExpr: // of a *sqlx.DB also its *sql.DB
		if t := h.pass.TypesInfo.TypeOf(e.X); e.Sel.Name == "DB" && t != nil && isType(t, sqlxPkg, "DB") {
			return h.is(e.X)
		}
	}
	obj := objectOf(h.pass.TypesInfo, e)
	return obj != nil && !h.bound[obj] && (h.objects[obj] || h.pass.ImportObjectFact(obj, new(isHandle)))
}

func (h *handleSet) isBound(e ast.Expr) bool {
	obj := objectOf(h.pass.TypesInfo, e)
	return obj != nil && h.bound[obj]
}

// matches is is, or takes any handle for one of ours if the flag says so.
func (h *handleSet) matches(e ast.Expr) bool {
	if h.is(e) {
		return true
	}
	t := h.pass.TypesInfo.TypeOf(e)
	return settingsFor(h.pass.Pkg).all && t != nil && isHandleType(t) && !h.isBound(e)
}

// opens tells whether a call returns a handle of dblocker.
func (h *handleSet) opens(call *ast.CallExpr) bool {
	f := calleeOf(h.pass.TypesInfo, call)
	switch {
	case f == nil:
		return false
	case isOf(f, sqlPkg, "Open"), isOf(f, sqlxPkg, "Open", "MustOpen", "Connect", "MustConnect", "ConnectContext"):
		i := 0
		if f.Name() == "ConnectContext" {
			i = 1
		}
		name, ok := "", false
		if len(call.Args) > i {
			name, ok = h.constant(call.Args[i])
		}
		return ok && (name == "dblocker" || strings.HasSuffix(name, "-dblocker") || h.names[name])
	case isOf(f, sqlPkg, "OpenDB"):
		return len(call.Args) == 1 && isType(h.pass.TypesInfo.TypeOf(call.Args[0]), ours, "Connector")
	case isOf(f, sqlxPkg, "NewDb"):
		return len(call.Args) > 0 && h.is(call.Args[0])
	case isOf(f, ours):
		res := f.Signature().Results()
		return f.Name() != "Inner" && !isFromStore(f) && res.Len() > 0 && isHandleType(res.At(0).Type())
	}
	return h.objects[f] || h.pass.ImportObjectFact(f, new(isHandle))
}

// isFromStore tells whether a method of a Store returns a handle under a lock.
func isFromStore(f *types.Func) bool {
	return isOf(f, ours) && receiverOf(f) == "Store" && f.Name() != "DB"
}

func (h *handleSet) constant(e ast.Expr) (string, bool) { return constantOf(h.pass.TypesInfo, e) }

// constantOf returns the value of an expression that is a constant string.
func constantOf(info *types.Info, e ast.Expr) (string, bool) {
	v := info.Types[e].Value
	if v == nil || v.Kind() != constant.String {
		return "", false
	}
	return constant.StringVal(v), true
}
