package dblocker

import (
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/userid"
)

// DatabaseName returns what stands for {user} in the data source name of a handle with a database for each user: u27 for
// the user 27. It is for a program that creates its schemas or databases by hand, or looks for a file. The id is as for [WithUser].
//
// The name is u and the ID: small letters and digits as they are, a capital letter as _ and the small one, a hyphen as __, any
// other byte as _0 and two hexadecimal digits. It is of [a-z0-9_] only, each ID has another name, and [UserOf] gives the ID back. In SQL put it
// between quotes, since the user "ser" has the name user. In a GRANT or LIKE _ stands for any character: write \_ for it there.
func DatabaseName(id any) (name string, err error) {
	user, err := locks.CanonicalUser(id)
	if err != nil {
		return "", err
	}
	return userid.Encode(user), nil
}

// UserOf returns the user whose database has the name, as [DatabaseName] gives it: without a directory, an extension or
// whatever else stands around {user}. It is not ok for a name that no user has.
func UserOf(name string) (id string, ok bool) { return userid.Decode(name) }
