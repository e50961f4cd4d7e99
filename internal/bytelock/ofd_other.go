//go:build !linux && !darwin

package bytelock

import "os"

const supported = false

// A descriptor is never made here: Open fails.
type descriptor struct{ file *os.File }

func describe(f *os.File) descriptor              { return descriptor{f} }
func (d descriptor) close()                       { d.file.Close() }
func (descriptor) try(Mode, span) (bool, error)   { return false, ErrUnsupported }
func (descriptor) wait(Mode, span) error          { return ErrUnsupported }
func (descriptor) unlock(span) error              { return ErrUnsupported }
func (descriptor) look(span) bool                 { return true }
func (descriptor) other(Mode, span) (Mode, error) { return none, ErrUnsupported }
