//go:build go1.27

// Package scan stands in for database/sql/internal, which database/sql and its
// driver package share since Go 1.27. The copy of database/sql works with the
// standard driver package, whose ScanContext nobody else can look into; here is
// its layout.
package scan

import (
	"database/sql/driver"
	"unsafe"
)

type ScanContext = driver.ScanContext

type layout struct{ v any }

// Neither compiles should the size of ScanContext change.
var (
	_ [unsafe.Sizeof(layout{}) - unsafe.Sizeof(ScanContext{})]byte
	_ [unsafe.Sizeof(ScanContext{}) - unsafe.Sizeof(layout{})]byte
)

func NewScanContext(v any) ScanContext {
	l := layout{v}
	return *(*ScanContext)(unsafe.Pointer(&l))
}

func ScanContextValue(c ScanContext) any {
	return (*layout)(unsafe.Pointer(&c)).v
}
