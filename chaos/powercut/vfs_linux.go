package powercut

/*
#include <stdint.h>
int powercut_register(const char *name, int make_default);
*/
import "C"

import (
	"errors"
	"path/filepath"
	"runtime/cgo"
	"sync"
	"unsafe"

	_ "github.com/mattn/go-sqlite3" // has the library
)

// VFS is the name of the VFS that tells recorders what is done to their files. It is SQLite's default one
// when it is registered.
const VFS = "powercut"

// Register makes VFS known to the SQLite library of github.com/mattn/go-sqlite3.
var Register = sync.OnceValue(func() error {
	if rc := C.powercut_register(C.CString(VFS), 0); rc != 0 {
		return errors.New("powercut: the program has no SQLite library to register the VFS with, or it refuses that")
	}
	return nil
})

// Faults lets writes and syncs fail with a code of SQLite's; 0 is none.
type Faults func(writes bool) (code int)

// Fail lets what SQLite does by VFS to the files of a directory fail, instead of recording it. It is for files
// that are opened from then on.
func Fail(dir string, f Faults) (stop func()) {
	faults.Store(dir, f)
	return func() { faults.Delete(dir) }
}

// faults are by directory.
var faults sync.Map

const ioErrSync = 10 | 4<<8

const (
	openCreate       = 0x00000004
	openMainJournal  = 0x00000800
	openSuperJournal = 0x00004000
	openWAL          = 0x00080000
)

//export powercutOpened
func powercutOpened(name *C.char, flags C.int) C.uintptr_t {
	path := C.GoString(name)
	dir := filepath.Dir(path)
	if fails, ok := faults.Load(dir); ok {
		return C.uintptr_t(cgo.NewHandle(fails))
	}
	r, ok := recorders.Load(dir)
	if !ok {
		return 0
	}
	// That is when unixSync syncs the directory too.
	syncsName := flags&openCreate != 0 && flags&(openMainJournal|openSuperJournal|openWAL) != 0
	return C.uintptr_t(cgo.NewHandle(r.(*Recorder).opened(filepath.Base(path), syncsName)))
}

//export powercutClosed
func powercutClosed(h C.uintptr_t) { cgo.Handle(h).Delete() }

//export powercutFails
func powercutFails(h C.uintptr_t, writes C.int) C.int {
	if fails, ok := cgo.Handle(h).Value().(Faults); ok {
		return C.int(fails(writes != 0))
	}
	return 0
}

//export powercutWrote
func powercutWrote(h C.uintptr_t, data unsafe.Pointer, n C.int, off C.int64_t) {
	if o, ok := cgo.Handle(h).Value().(*opened); ok {
		o.wrote(C.GoBytes(data, n), int64(off))
	}
}

//export powercutTruncated
func powercutTruncated(h C.uintptr_t, size C.int64_t) {
	if o, ok := cgo.Handle(h).Value().(*opened); ok {
		o.truncated(int64(size))
	}
}

//export powercutSync
func powercutSync(h C.uintptr_t) C.int {
	if o, ok := cgo.Handle(h).Value().(*opened); ok && o.sync() != nil {
		return ioErrSync
	}
	return 0
}

//export powercutDeleted
func powercutDeleted(name *C.char, syncsDir C.int) {
	path := C.GoString(name)
	if r, ok := recorders.Load(filepath.Dir(path)); ok {
		r.(*Recorder).deleted(filepath.Base(path), syncsDir != 0)
	}
}
