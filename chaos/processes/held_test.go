//go:build unix

package processes

import (
	"cmp"
	"fmt"
	"slices"
)

// everyUser is the user of a lock of all.
const everyUser = -1

// A held is a time in which an owner has had a user's lock for certain: it begins when the lock was there, and ends when the last
// statement was sent that was answered well. If the connection is lost, the rest does not count.
type held struct {
	user     int
	shared   bool
	owner    string
	what     string
	from, to int64
}

func (h *held) String() string {
	mode := "exclusive"
	if h.shared {
		mode = "shared"
	}
	return fmt.Sprintf("%s of user %d, %s, by request %s, from %.6f to %.6f", h.what, h.user, mode, h.owner, float64(h.from)/1e9, float64(h.to)/1e9)
}

// mostShown is how many violations of a kind are shown.
const mostShown = 5

// overlaps returns what two owners have had at the same time, who exclude each other.
func overlaps(all []*held) (violations []string) {
	slices.SortFunc(all, func(a, b *held) int { return cmp.Compare(a.from, b.from) })
	var open []*held
	for _, h := range all {
		open = slices.DeleteFunc(open, func(o *held) bool { return o.to <= h.from })
		for _, o := range open {
			if o.conflicts(h) && len(violations) < mostShown {
				violations = append(violations, fmt.Sprintf("two have had one lock at the same time: %v; %v", o, h))
			}
		}
		open = append(open, h)
	}
	return violations
}

func (h *held) conflicts(o *held) bool {
	return h.owner != o.owner && !(h.shared && o.shared) && (h.user == o.user || h.user == everyUser || o.user == everyUser)
}
