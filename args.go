package dblocker

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

// checkArg is acceptAll, but that it calls the argument's own Value method, if the driver has no
// other use for that: before there is a lock, so that one that takes its time, or asks the
// database, keeps nobody waiting, nor waits for itself. In a transaction there is a lock already.
func (c *conn) checkArg(nv *driver.NamedValue) error {
	valuer, ok := nv.Value.(driver.Valuer)
	if !ok || !c.db.plainValuers || isBinary(valuer) || !c.hasNothing() {
		return acceptAll(nv)
	}
	value, returned, err := c.callValuer(valuer)
	if returned && err == nil && driver.IsValue(value) { // else convertArgs finds the words
		nv.Value = value
	}
	return err
}

// isBinary tells whether lib/pq may ask for another value.
func isBinary(v driver.Valuer) bool {
	_, ok := v.(interface{ BinaryValue() ([]byte, error) })
	return ok
}

// hasNothing tells whether c has neither a transaction nor a server connection.
func (c *conn) hasNothing() bool {
	if !c.mu.TryLock() {
		return false
	}
	nothing := c.scope == nil && c.raw == nil && c.drawn.sc == nil
	c.mu.Unlock()
	c.sweep()
	return nothing
}

// callValuer keeps a panic to itself: convertArgs calls Value again, where one leaves nothing locked. A
// Value that ends the goroutine ends c.
func (c *conn) callValuer(v driver.Valuer) (value driver.Value, returned bool, err error) {
	defer func() {
		if returned || recover() != nil {
			return
		}
		c.mu.Lock()
		defer c.leave()
		c.abandon(nil, nil)
	}()
	value, err = valueOf(v)
	return value, true, err
}

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

// valueOf calls v.Value. A nil pointer whose Value method is declared on the
// value would panic there: it stands for NULL.
func valueOf(v driver.Valuer) (driver.Value, error) {
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() && rv.Type().Elem().Implements(valuerType) {
		return nil, nil
	}
	return v.Value()
}

func valuerValue(v driver.Valuer) (driver.Value, error) {
	sv, err := valueOf(v)
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

// namedValues is the inverse, for calls that come by a legacy form.
func namedValues(values []driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(values))
	for i, v := range values {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return args
}
