//go:build unix

package main

import (
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// announce says what will be done and how long that takes.
func announce(modules []testModule, flags []string) {
	var names []string
	for _, m := range modules {
		names = append(names, m.name)
	}
	progress("%d modules: %s", len(modules), strings.Join(names, ", "))
	progress("each: go test ./... %s", strings.Join(flags, " "))
	progress("%s", expected(flags))
}

// chooses matches the flags that leave tests out.
var chooses = regexp.MustCompile(`^--?(test\.)?(run|skip|short|bench|fuzz|list)\b`)

// expected is what is known of the time: see CONTRIBUTING.md for how it was measured.
func expected(flags []string) string {
	all := "all tests take some 20 minutes on two cores with -race; this machine has " + plural(runtime.NumCPU(), "core")
	if slices.ContainsFunc(flags, chooses.MatchString) {
		return "the flags choose some of the tests; " + all
	}
	return all + "; the first time the build takes some minutes more"
}
