// Package asan stands in for the standard library's internal package of this
// name.
package asan

const Enabled = false
