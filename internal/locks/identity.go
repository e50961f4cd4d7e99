package locks

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/userid"
)

// An Identity says whose a context is.
type Identity struct {
	User  string
	Owner *Owner // nil if the context was tagged with UserKey only
	Err   error  // a bad ID; reported by the first use

	Nobody  bool // it is meant to be no user's
	Suspect bool // an ID that programs have by mistake; logged by the first use
}

// LockOwner returns the owner for the lock table.
func (id Identity) LockOwner() *rwlock.Owner { return id.Owner.lock() }

// NewIdentity is that of an ID, without an owner.
func NewIdentity(id any) Identity {
	user, err := CanonicalUser(id)
	return Identity{User: user, Err: err, Suspect: IsSuspect(user)}
}

// IsSuspect tells of IDs that stand for "none" in many programs.
func IsSuspect(user string) bool {
	switch user {
	case "0", "-1", "00000000-0000-0000-0000-000000000000", "<nil>":
		return true
	}
	return false
}

const untagged = "give each user an ID of its own, or leave the context untagged for work that belongs to no user: call no dblocker.WithUser, and have the function given to web.Middleware return false"

// CanonicalUser reduces an ID to the string that names the user. An ID that is empty is userid.ErrUserID; one of a wrong type is a fault of the
// program, and another error.
func CanonicalUser(id any) (string, error) {
	if v := reflect.ValueOf(id); v.Kind() == reflect.Pointer && v.IsNil() {
		return "", fmt.Errorf("dblocker: the user ID is a nil %T; "+untagged, id)
	}
	user, ok := userString(id)
	if !ok {
		return "", fmt.Errorf("dblocker: a user ID of type %T cannot be used; give a string, an integer, a [16]byte or a fmt.Stringer", id)
	}
	if user == "" {
		return "", userid.Unusable("dblocker: the user ID is empty; " + untagged)
	}
	return user, nil
}

func userString(id any) (string, bool) {
	if s, ok := id.(string); ok { // the usual case, before reflection
		return s, true
	}
	if s, ok := id.(fmt.Stringer); ok {
		return s.String(), true
	}
	switch v := reflect.ValueOf(id); {
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	case v.Kind() == reflect.Array && v.Type().ConvertibleTo(uuidType):
		return uuidText(v.Convert(uuidType).Interface().([16]byte)), true
	}
	return "", false
}

var uuidType = reflect.TypeFor[[16]byte]()

// uuidText writes a UUID in the form of RFC 9562, section 4.
func uuidText(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
