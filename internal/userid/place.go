package userid

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/calmdocs/dblocker/internal/plain"
)

// A Place is where the name of a user stands, alone or with other text around it.
type Place struct {
	what string // it is called in errors
	max  int    // bytes
	file bool
}

var (
	// FileName is the name of a file or directory, without what stands before it in its path. File systems have 255 bytes,
	// and what SQLite and dblocker append to the name of a file needs some of them.
	FileName = Place{what: "the name of a file", max: 200, file: true}

	// PostgreSQL is the name of a database, a schema or a role, of which that server would cut the rest off.
	PostgreSQL = Place{what: "a name in PostgreSQL", max: 63}

	// MySQL is the name of a database of MySQL or MariaDB.
	MySQL = Place{what: "a name in MySQL or MariaDB", max: 64}
)

// Check returns an ErrUserID if a name, with all that stands around that of the user, cannot stand in the place.
func (p Place) Check(name, user string) error {
	if n := len(name); n > p.max {
		return Unusable("dblocker: the user ID %s is too long for %s: written as a name it has %d bytes, with what stands around it %d, and %d is the most; use shorter IDs, best of digits and lower-case letters",
			Brief(user), p.what, len(Encode(user)), n, p.max)
	}
	if p.file && isReserved(name) {
		return Unusable("dblocker: the user ID %s gives the file name %q, which Windows keeps for a device; write more before {user}, or a separator", Brief(user), name)
	}
	return nil
}

// isReserved tells of the names of devices, in whatever case and with whatever extension.
func isReserved(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.ToLower(strings.TrimRight(stem, " "))
	switch stem {
	case "con", "prn", "aux", "nul", "conin$", "conout$", "clock$":
		return true
	}
	port, ok := strings.CutPrefix(stem, "com")
	if !ok {
		port, ok = strings.CutPrefix(stem, "lpt")
	}
	switch port {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return ok
	}
	return false
}

// most is how many bytes of an ID a reader needs.
const most = 64

// Short returns an ID for a log, of which a long one is cut. Bytes that are not UTF-8 are in escapes, which else would look the same in JSON.
func Short(user string) string { return plain.UTF8(plain.Short(user, most)) }

// Brief is Short for errors: the ID is in quotes, and in escapes where it needs them.
func Brief(user string) string {
	if len(user) <= most {
		return strconv.Quote(user)
	}
	return strconv.Quote(plain.Begin(user, most)) + plain.Rest(user)
}

// BriefAll is Brief of some, of whom many are counted.
func BriefAll(users []string) string {
	const named = 10
	var all []string
	for _, u := range users[:min(len(users), named)] {
		all = append(all, Brief(u))
	}
	if more := len(users) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return "[" + strings.Join(all, " ") + "]"
}
