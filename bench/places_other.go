//go:build !linux

package main

// fileSystem names the kind of file system that a directory is on, where it can
// be told.
func fileSystem(string) string { return "an unknown file system" }
