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

const (
	openCreate       = 0x00000004
	openMainJournal  = 0x00000800
	openSuperJournal = 0x00004000
	openWAL          = 0x00080000
)

//export powercutOpened
func powercutOpened(name *C.char, flags C.int) C.uintptr_t {
	path := C.GoString(name)
	r, ok := recorders.Load(filepath.Dir(path))
	if !ok {
		return 0
	}
	// That is when unixSync syncs the directory too.
	syncsName := flags&openCreate != 0 && flags&(openMainJournal|openSuperJournal|openWAL) != 0
	return C.uintptr_t(cgo.NewHandle(r.(*Recorder).opened(filepath.Base(path), syncsName)))
}

//export powercutClosed
func powercutClosed(h C.uintptr_t) { cgo.Handle(h).Delete() }

//export powercutWrote
func powercutWrote(h C.uintptr_t, data unsafe.Pointer, n C.int, off C.int64_t) {
	cgo.Handle(h).Value().(*opened).wrote(C.GoBytes(data, n), int64(off))
}

//export powercutTruncated
func powercutTruncated(h C.uintptr_t, size C.int64_t) {
	cgo.Handle(h).Value().(*opened).truncated(int64(size))
}

//export powercutSync
func powercutSync(h C.uintptr_t) { cgo.Handle(h).Value().(*opened).sync() }

//export powercutDeleted
func powercutDeleted(name *C.char, syncsDir C.int) {
	path := C.GoString(name)
	if r, ok := recorders.Load(filepath.Dir(path)); ok {
		r.(*Recorder).deleted(filepath.Base(path), syncsDir != 0)
	}
}
