// Package compat is the tests of dblocker/web with web frameworks. It is a module of its own, so that dblocker depends on
// none of them.
package compat
