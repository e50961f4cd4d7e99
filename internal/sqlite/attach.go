package sqlite

import (
	"database/sql/driver"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Attaches tells whether a statement may attach a file, or detach one.
func Attaches(st sqltext.Statement, text string) bool {
	switch {
	case st.Kind == sqltext.Read:
		return false
	case st.Multi, st.Verb == "":
		return sqltext.Contains(text, "ATTACH") || sqltext.Contains(text, "DETACH")
	}
	return st.Verb == "ATTACH" || st.Verb == "DETACH"
}

// AttachedFile returns the resolved path of the file that an ATTACH names; "" if it is none, or
// cannot be told.
func AttachedFile(a sqltext.Attach, args []driver.NamedValue) string {
	name := a.File
	if a.Param != "" {
		name = fileArg(a, args)
	}
	d := parse(name, library{})
	if name == "" || d.kind() != kindFile {
		return ""
	}
	abs, err := filepath.Abs(d.path)
	if err != nil {
		return ""
	}
	return ResolvePath(abs)
}

// fileArg returns the argument for the parameter of an ATTACH, if that is a name of a file.
func fileArg(a sqltext.Attach, args []driver.NamedValue) string {
	i := slices.IndexFunc(args, func(arg driver.NamedValue) bool { return arg.Name != "" && arg.Name == a.Param[1:] })
	if i < 0 {
		i = fileArgAt(a, len(args))
	}
	if i < 0 {
		return ""
	}
	switch v := args[i].Value.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// fileArgAt returns which of n arguments is that for a parameter without a name, or -1. The
// drivers differ: to some, the arguments of a statement begin behind those of the one before.
func fileArgAt(a sqltext.Attach, n int) int {
	number, err := strconv.Atoi(a.Param[1:])
	if err != nil {
		number = 1
	}
	switch {
	case number < 1 || number > n:
		return -1
	case a.Before+number <= n:
		return a.Before + number - 1
	}
	return number - 1
}

// OpensAttached tells whether new connections of a driver may come with files attached, by a
// hook. It is so unless the driver is known and has none.
func OpensAttached(driver any) bool {
	field := map[string]string{"github.com/mattn/go-sqlite3": "ConnectHook", "modernc.org/sqlite": "connectionHooks"}[drivers.Package(driver)]
	v := reflect.ValueOf(driver)
	if field == "" || v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return true
	}
	switch f := v.Elem().FieldByName(field); f.Kind() {
	case reflect.Func:
		return !f.IsNil()
	case reflect.Slice:
		return f.Len() > 0
	}
	return true
}
