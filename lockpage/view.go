package lockpage

import (
	"strings"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/plain"
)

// A View is what the page shows, as ?format=json has it.
type View struct {
	Time      time.Time      `json:"time"`
	Program   string         `json:"program"`
	PID       int            `json:"pid"`
	Databases []DatabaseView `json:"databases"`
}

// A DatabaseView is what is known of one handle.
type DatabaseView struct {
	Name  string    `json:"name"`
	Error string    `json:"error,omitempty"` // why nothing is known
	As    time.Time `json:"as_of"`           // when it was looked at
	Late  string    `json:"late,omitempty"`  // how long the handle has not answered since, if that is long

	// Held and Waiting count all, More and MoreWaiting those that are not in the list.
	Held        int    `json:"held"`
	Waiting     int    `json:"waiting"`
	LongestHold string `json:"longest_hold,omitempty"`
	LongestWait string `json:"longest_wait,omitempty"`

	Holds       []Hold `json:"holds"` // and waits, the oldest first
	More        int    `json:"more_holds,omitempty"`
	MoreWaiting int    `json:"more_waiting,omitempty"`

	WaitingAtGate int `json:"waiting_at_gate,omitempty"` // of a SQLite file

	Statistics *dblocker.Statistics `json:"statistics,omitempty"`

	Deadlocks    []Story  `json:"deadlocks,omitempty"`     // the newest first
	SlowHolds    []Record `json:"slowest_holds,omitempty"` // the longest first
	LongestWaits []Record `json:"longest_waits,omitempty"`
	Minutes      []Minute `json:"minutes,omitempty"` // the oldest first

	// What an observer has told.
	MostInBatch   int64          `json:"most_in_batch,omitempty"` // statements
	LongestBatch  string         `json:"longest_batch,omitempty"`
	LongestSync   string         `json:"longest_sync,omitempty"`
	SessionsLost  int64          `json:"sessions_lost,omitempty"`
	LocksLost     int64          `json:"locks_lost,omitempty"` // among processes
	UserDatabases *UserDatabases `json:"user_databases,omitempty"`

	graph       graph
	gate, slots queue
	history     []second
	observed    bool

	batches, syncs work
	late           time.Duration
	longest        struct{ hold, wait time.Duration }
}

// UserDatabases are those of users who have one each.
type UserDatabases struct {
	Newest []string `json:"newest"` // the users whose databases were opened last, and are open; the newest first
	Failed int64    `json:"failed"` // how many could not be opened
}

// A Hold is who has something, or waits for it.
type Hold struct {
	What      string                `json:"what"`           // lock, gate, connection or database
	User      string                `json:"user,omitempty"` // of a gate the one whose file it is of, where users have one each
	AllUsers  bool                  `json:"all_users,omitempty"`
	Mode      string                `json:"mode"`
	Waiting   bool                  `json:"waiting"`
	Kind      string                `json:"kind"`
	Tag       string                `json:"tag,omitempty"`
	Place     string                `json:"place,omitempty"` // in the program, with trace=on
	Request   uint64                `json:"request,omitempty"`
	Since     time.Time             `json:"since,omitzero"`
	For       string                `json:"for,omitempty"`
	BlockedBy uint64                `json:"blocked_by,omitempty"` // the request
	Blocked   int                   `json:"blocks,omitempty"`     // how many wait for it, directly or not
	Process   *dblocker.ProcessInfo `json:"process,omitempty"`

	lasts time.Duration
}

// most is how many holds, and how many waits, are listed. What is more is counted.
const most = 100

// A queue is who has a gate or a connection, and how many wait for it.
type queue struct {
	exists  bool
	holders []Hold
	held    int
	waiting int
	longest time.Duration
}

// take puts a hold into words.
func (p *Page) take(i dblocker.HoldInfo) Hold {
	h := Hold{What: i.What, Mode: i.Mode.String(), Waiting: i.Waiting, Kind: i.Kind, Request: i.Request, Since: i.Since, Process: i.Process, lasts: i.For}
	h.AllUsers = i.What == "lock" && i.User == ""
	if i.What == "gate" {
		i.User, _ = dblocker.UserOf(i.Database)
	}
	if i.User != "" {
		h.User = p.user(i.User)
	}
	h.Tag, h.Place = cutPlace(i.Tag)
	h.For = durationText(i.For)
	return h
}

// durationText writes a duration, of which "" stands for none.
func durationText(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return d.String()
}

// user returns how an ID is shown. A panic of Users is the page's, and not the program's.
func (p *Page) user(id string) (shown string) {
	if p.Users != nil {
		defer func() {
			if recover() != nil {
				shown = "hidden, as Page.Users has panicked"
			}
		}()
		id = p.Users(id)
	}
	return plain.UTF8(limited(id, 1000))
}

// cutPlace takes the place in the program from a tag that trace=on has put it into.
func cutPlace(tag string) (rest, place string) {
	tag = plain.UTF8(limited(tag, 1000))
	i := strings.LastIndex(tag, ".go:")
	if i < 0 || strings.Trim(tag[i+4:], "0123456789") != "" || i+4 == len(tag) {
		return tag, ""
	}
	if i := strings.LastIndex(tag, " at "); i >= 0 {
		return tag[:i], tag[i+4:]
	}
	if place, ok := strings.CutPrefix(tag, "at "); ok {
		return "", place
	}
	return "", tag
}

// shortPlace leaves the file and its directory.
func shortPlace(place string) string {
	slash := strings.LastIndexByte(place, '/')
	if slash > 0 {
		if before := strings.LastIndexByte(place[:slash], '/'); before >= 0 {
			return place[before+1:]
		}
	}
	return place
}
