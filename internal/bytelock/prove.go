package bytelock

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// A locker is a description, in Open.
type locker interface {
	try(Mode, span) (bool, error)
	unlock(span) error
}

// prove returns an error unless the locks of two descriptions exclude each other, and pass from one to the other.
func prove(path string, a, b locker) error {
	at := span{probes + rand.Int64N(globalDoor-probes), 1}
	defer a.unlock(at)
	defer b.unlock(at)
	err := expect(a, at, true)
	if err == nil {
		err = expect(b, at, false)
	}
	if err == nil {
		err = a.unlock(at)
	}
	if err == nil {
		err = expect(b, at, true)
	}
	if err != nil {
		return fmt.Errorf("locks among processes need a file system with byte-range locks, and that of %s has none that work: keep the database on a local disk: %w", path, err)
	}
	return nil
}

func expect(d locker, at span, want bool) error {
	got, err := d.try(Exclusive, at)
	switch {
	case err != nil:
		return err
	case got && !want:
		return errors.New("two descriptions have locked one byte")
	case want && !got:
		return errors.New("a byte that nobody has locked is locked")
	}
	return nil
}
