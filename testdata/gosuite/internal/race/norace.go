//go:build !race

// Package race stands in for the standard library's internal package of this
// name.
package race

const Enabled = false
