package callers

import (
	"fmt"
	"runtime"
	"strings"
)

// Use returns what the program has a client connection of database/sql for, and the place that called into database/sql, or
// into sqlx. What is "" if it is not the program that takes it: database/sql has a goroutine that opens connections.
func Use() (what, site string) {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	method := ""
	for {
		frame, more := frames.Next()
		if name, ok := strings.CutPrefix(frame.Function, "database/sql.(*"); ok {
			method = name
		}
		if !isPlumbing(frame) {
			return useOf(method), fmt.Sprintf("%s:%d", frame.File, frame.Line)
		}
		if !more {
			return "", "unknown"
		}
	}
}

// useOf puts the outermost method of database/sql in words.
func useOf(method string) string {
	of, name, _ := strings.Cut(method, ").")
	switch {
	case of == "Conn", name == "Conn":
		return "a sql.Conn is in use; close it"
	case strings.HasPrefix(name, "Query"):
		return "the rows of a query are open, or it has not returned; close them, or read them to their end"
	case strings.HasPrefix(name, "Begin"):
		return "a transaction is open, or its begin has not returned; commit it or roll it back"
	}
	return "a call has not returned; wait for it before the test ends"
}
