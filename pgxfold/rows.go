package pgxfold

import (
	"database/sql/driver"
	"reflect"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
)

// resultFormats are those that stdlib asks for.
var resultFormats = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID:        1,
	pgtype.ByteaOID:       1,
	pgtype.CIDOID:         1,
	pgtype.DateOID:        1,
	pgtype.Float4OID:      1,
	pgtype.Float8OID:      1,
	pgtype.Int2OID:        1,
	pgtype.Int4OID:        1,
	pgtype.Int8OID:        1,
	pgtype.OIDOID:         1,
	pgtype.TimestampOID:   1,
	pgtype.TimestamptzOID: 1,
	pgtype.XIDOID:         1,
}

// rows are those of a statement in a pipeline, which ends with them.
type rows struct {
	pgx.Rows
	pipeline *pgconn.Pipeline
	ended    bool
	err      error // of that end
}

func (r *rows) Next() bool {
	more := r.Rows.Next()
	if !more {
		r.end()
	}
	return more
}

func (r *rows) Close() {
	r.Rows.Close()
	r.end()
}

func (r *rows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

func (r *rows) end() {
	if !r.ended {
		r.ended = true
		r.err = r.pipeline.Close()
	}
}

// A rowsOf has the fields of a stdlib.Rows that stdlib sets. That converts the values; it is used rather than written again, so that they are
// those of stdlib in every version.
var canMakeRows = hasFields(reflect.TypeFor[stdlib.Rows](), map[string]reflect.Type{
	"conn": reflect.TypeFor[*stdlib.Conn](), "rows": reflect.TypeFor[pgx.Rows](),
	"skipNext": reflect.TypeFor[bool](), "skipNextMore": reflect.TypeFor[bool](),
})

func hasFields(t reflect.Type, fields map[string]reflect.Type) bool {
	for name, is := range fields {
		if f, ok := t.FieldByName(name); !ok || f.Type != is {
			return false
		}
	}
	return true
}

// makeRows returns the rows of stdlib for others, of which the first was read.
func makeRows(c *stdlib.Conn, of pgx.Rows, more bool) driver.Rows {
	r := new(stdlib.Rows)
	v := reflect.ValueOf(r).Elem()
	*fieldOf[*stdlib.Conn](v, "conn") = c
	*fieldOf[pgx.Rows](v, "rows") = of
	*fieldOf[bool](v, "skipNext") = true
	*fieldOf[bool](v, "skipNextMore") = more
	return r
}

func fieldOf[T any](v reflect.Value, name string) *T {
	return (*T)(unsafe.Pointer(v.FieldByName(name).UnsafeAddr()))
}
