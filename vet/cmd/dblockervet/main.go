// Command dblockervet finds misuse of dblocker in the source of programs.
//
//	go install github.com/calmdocs/dblocker/vet/cmd/dblockervet@latest
//	go vet -vettool=$(which dblockervet) ./...
//	dblockervet -fix ./...
package main

import (
	"golang.org/x/tools/go/analysis/multichecker"

	"github.com/calmdocs/dblocker/vet"
)

func main() { multichecker.Main(vet.Analyzers...) }
