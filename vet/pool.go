package vet

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// Pool reports limits that are set on a handle of dblocker, where they are for client connections.
var Pool = &analysis.Analyzer{
	Name:     "dblockerpool",
	Doc:      "report SetMaxOpenConns and its like on a handle of dblocker",
	URL:      page + "#pool",
	Run:      runPool,
	Requires: []*analysis.Analyzer{inspect.Analyzer, handles},
}

var poolOptions = map[string]string{
	"SetMaxOpenConns": "max_open_conns", "SetMaxIdleConns": "max_idle_conns", "SetConnMaxLifetime": "conn_max_lifetime", "SetConnMaxIdleTime": "conn_max_idle_time",
}

func runPool(pass *analysis.Pass) (any, error) {
	eachCall(pass, func(call *ast.CallExpr, f *types.Func, stack []ast.Node) {
		if pass.Pkg.Path() == ours { // there a Store closes the client connections of its own handles
			return
		}
		option := poolOptions[f.Name()]
		sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
		if option == "" || !ok || !isOf(f, sqlPkg) || receiverOf(f) != "DB" || inTest(pass, call) || !pass.ResultOf[handles].(*handleSet).matches(sel.X) {
			return
		}
		why := "does nothing for the connections to the server"
		if f.Name() == "SetMaxOpenConns" {
			why = "lets those who wait for a lock take the connections from others, and can block them for ever"
		}
		pass.ReportRangef(call, "%s on a handle of dblocker %s; remove it, and use the option %s", f.Name(), why, option)
	})
	return nil, nil
}
