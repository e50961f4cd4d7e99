package server

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
)

// acceptAll is our answer to database/sql when it asks to check an argument: it
// asks before there is an inner connection, so the inner checks come later, in
// convertArgs.
func acceptAll(*driver.NamedValue) error { return nil }

// convertArgs does to the arguments of a call what database/sql does for the
// bare driver: it asks the statement's checker or else the connection's, then
// the statement's column converters, then applies the default conversion. si is
// nil if there is no statement. The texts of its errors are database/sql's own.
func convertArgs(ci driver.Conn, si driver.Stmt, args []driver.NamedValue) ([]driver.NamedValue, error) {
	checks := newArgChecks(ci, si)
	converted := args[:0]
	if si == nil || checks.checker != nil || checks.columns != nil {
		// Only the default conversion of a statement, the last there is, may be done
		// again, as it is if the call is repeated.
		converted = make([]driver.NamedValue, 0, len(args))
	}
	for i := range args {
		converted = append(converted, args[i])
		nv := &converted[len(converted)-1]
		nv.Ordinal = len(converted)
		switch err := checks.run(nv); err {
		case nil:
		case driver.ErrRemoveArgument:
			converted = converted[:len(converted)-1]
		default:
			return nil, fmt.Errorf("sql: converting argument %s type: %w", describeArg(nv), err)
		}
	}
	if checks.want != -1 && len(converted) != checks.want {
		return nil, fmt.Errorf("sql: expected %d arguments, got %d", checks.want, len(converted))
	}
	return converted, nil
}

// argChecks are the checks of an argument, in order: each is asked only if those
// before it answered driver.ErrSkip.
type argChecks struct {
	checker driver.NamedValueChecker // nil if neither statement nor connection has one
	columns driver.ColumnConverter   // nil if the statement has none
	want    int                      // number of parameters; -1 if unknown
}

func newArgChecks(ci driver.Conn, si driver.Stmt) argChecks {
	c := argChecks{want: -1}
	if si != nil {
		c.want = si.NumInput()
	}
	var ok bool
	if c.checker, ok = si.(driver.NamedValueChecker); !ok {
		c.checker, _ = ci.(driver.NamedValueChecker)
	}
	c.columns, _ = si.(driver.ColumnConverter)
	return c
}

func (c *argChecks) run(nv *driver.NamedValue) error {
	if c.checker != nil {
		if err := c.checker.CheckNamedValue(nv); err != driver.ErrSkip {
			return err
		}
	}
	if c.columns != nil {
		if err := c.convertColumn(nv); err != driver.ErrSkip {
			return err
		}
	}
	value, err := driver.DefaultParameterConverter.ConvertValue(nv.Value)
	if err == nil { // else it is needed as it was, if the call is repeated
		nv.Value = value
	}
	return err
}

// convertColumn converts an argument with the statement's ColumnConverter. One
// beyond the statement's parameters is left for the count to refuse.
func (c *argChecks) convertColumn(nv *driver.NamedValue) (err error) {
	index := nv.Ordinal - 1
	if c.want >= 0 && c.want <= index {
		return nil
	}
	if valuer, ok := nv.Value.(driver.Valuer); ok {
		if nv.Value, err = valuerValue(valuer); err != nil {
			return err
		}
	}
	arg := nv.Value
	if nv.Value, err = c.columns.ColumnConverter(index).ConvertValue(arg); err != nil {
		return err
	}
	if !driver.IsValue(nv.Value) {
		return fmt.Errorf("driver ColumnConverter error converted %T to unsupported type %T", arg, nv.Value)
	}
	return nil
}

var valuerType = reflect.TypeFor[driver.Valuer]()

// ValueOf calls v.Value. A nil pointer whose Value method is declared on the
// value would panic there: it stands for NULL.
func ValueOf(v driver.Valuer) (driver.Value, error) {
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() && rv.Type().Elem().Implements(valuerType) {
		return nil, nil
	}
	return v.Value()
}

func valuerValue(v driver.Valuer) (driver.Value, error) {
	sv, err := ValueOf(v)
	if err != nil {
		return nil, err
	}
	if !driver.IsValue(sv) {
		return nil, fmt.Errorf("non-subset type %T returned from Value", sv)
	}
	return sv, nil
}

func describeArg(nv *driver.NamedValue) string {
	if nv.Name == "" {
		return fmt.Sprintf("$%d", nv.Ordinal)
	}
	return fmt.Sprintf("with name %q", nv.Name)
}

// plainValues drops the names and ordinals, for the legacy forms of drivers.
func plainValues(args []driver.NamedValue) ([]driver.Value, error) {
	values := make([]driver.Value, len(args))
	for i, nv := range args {
		if nv.Name != "" {
			return nil, errors.New("sql: driver does not support the use of Named Parameters")
		}
		values[i] = nv.Value
	}
	return values, nil
}

// NamedValues is the inverse of plainValues, for calls that come by a legacy form.
func NamedValues(values []driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(values))
	for i, v := range values {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return args
}
