// Package testenv stands in for the standard library's internal package of this
// name.
package testenv

import "testing"

// SkipIfOptimizationOff does nothing: the tests are compiled with optimization.
func SkipIfOptimizationOff(testing.TB) {}
