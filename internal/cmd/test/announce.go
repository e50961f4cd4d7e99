//go:build unix

package main

import (
	"os/exec"
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
	progress("each: go test ./... %s, with %s", strings.Join(flags, " "), goVersion())
	progress("%s", expected(flags))
	if v := goVersion(); v == "go1.27.0" {
		progress("%s: its database/sql can stop for ever (https://go.dev/issue/81043), and the tests with it; use go1.27.1 or later", v)
	}
}

// goVersion is that of the go command, which may differ from the one that we were built with.
func goVersion() string {
	out, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
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
