// Package tools proves that ORMs and tools which others wrote work through dblocker unchanged, and lose no update. It has only tests,
// and is a module of its own so that the tools stay out of the dependencies of others.
//
// The scenario is written once (scenario_test.go). Each tool is an adapter of it, in a file of its own, with the code that a
// program would have. It runs on the bare driver, whose outcome is logged, and through dblocker, whose outcome must be right:
//
//	go test -v -run TestTools/gorm . -rounds=50
//
// The page docs/tools.md shows lines of these files.
package tools
