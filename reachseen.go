package dblocker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
)

// A ProcessInfo describes another process that has a lock, as the database shows it: by its session there. Of what the
// program's account may not see, it is empty.
type ProcessInfo struct {
	// Session is the number of the session: on PostgreSQL the pid of the server's process for it, as in pg_stat_activity and for
	// pg_terminate_backend; on MySQL and MariaDB the number of the connection, as in SHOW PROCESSLIST and for KILL. On
	// SQLite it is the pid of the other process itself, and the rest is empty.
	Session string `json:"session"`

	Name    string `json:"name,omitempty"`    // application_name on PostgreSQL; the connection attribute program_name on MySQL and MariaDB
	Address string `json:"address,omitempty"` // of the client, with its port
	State   string `json:"state,omitempty"`   // in the server's words, such as "idle in transaction", or Sleep

	// Since is when the session's transaction began on PostgreSQL or, if it has none, its last statement; on MySQL and MariaDB when it came
	// into its state, in whole seconds. When it took the lock, no server tells.
	Since time.Time `json:"since,omitzero"`
}

// String is for errors and logs.
func (p *ProcessInfo) String() string {
	if *p == (ProcessInfo{Session: p.Session}) { // of SQLite
		return "process " + printable(p.Session)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "session %s of another process", printable(p.Session))
	var more []string
	if p.Name != "" {
		more = append(more, strconv.Quote(p.Name))
	}
	if p.Address != "" {
		more = append(more, printable(p.Address))
	}
	if p.State != "" {
		more = append(more, printable(strings.ToLower(p.State)))
	}
	if !p.Since.IsZero() {
		more = append(more, "for "+inRound(time.Since(p.Since)))
	}
	if len(more) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(more, ", "))
	}
	return b.String()
}

func processInfo(h server.LockHolder) *ProcessInfo {
	return &ProcessInfo{Session: h.Session, Name: h.Name, Address: h.Address, State: h.State, Since: h.Since}
}

// How long it may take to ask the server who has a lock.
const (
	lookTime      = time.Second
	briefLookTime = 200 * time.Millisecond // for who has to return at once
	sightTime     = 250 * time.Millisecond // for which an answer is good
)

// A reachSight asks the server who has locks, for errors, logs and people: one at a time, as many may have waited for the same.
type reachSight struct {
	once sync.Once
	turn chan struct{} // has a token while somebody asks, who may use seen

	seen map[string]sighting
}

type sighting struct {
	at     time.Time
	others []scope.Other
}

// look returns what ask returns, or has returned for the key just before; nothing if it takes too long or fails.
func (s *reachSight) look(limit time.Duration, key string, ask func(context.Context) ([]scope.Other, error)) []scope.Other {
	s.once.Do(func() { s.turn = make(chan struct{}, 1) })
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-s.turn }()
	if last, ok := s.seen[key]; ok && time.Since(last.at) < sightTime {
		return last.others
	}
	others, err := ask(ctx)
	if err != nil {
		others = nil
	}
	if s.seen == nil || len(s.seen) > 100 {
		s.seen = make(map[string]sighting)
	}
	s.seen[key] = sighting{time.Now(), others}
	return others
}

// inTheWay returns the process that has had what a call wants for longest, and how many others there are; nil if that is not known.
func (c *handle) inTheWay(b *backend.Backend, ask scope.Ask, limit time.Duration) (oldest *ProcessInfo, more int) {
	if b.Scope == nil {
		return inTheWayOnFile(b, ask)
	}
	key := fmt.Sprint(ask.Shared, ask.All, ask.Users)
	others := c.sight.look(limit, key, func(ctx context.Context) (others []scope.Other, err error) {
		panicked := server.Contain(c.logger, func() {
			err = b.Aside(ctx, func(sc *server.Conn) (err error) {
				others, err = b.Scope.InTheWay(ctx, sc, ask)
				return err
			})
		})
		if panicked != nil {
			return nil, panicked
		}
		return others, err
	})
	if len(others) == 0 {
		return nil, 0
	}
	return processInfo(others[0].LockHolder), len(others) - 1
}

// inTheWayOnFile is inTheWay for a SQLite file.
func inTheWayOnFile(b *backend.Backend, ask scope.Ask) (first *ProcessInfo, more int) {
	others := b.Users.AmongAll
	if !ask.All {
		others = func() []bytelock.Holder { return b.Users.Among(ask.Users[0]) }
	}
	found := others()
	if len(found) == 0 {
		return nil, 0
	}
	return &ProcessInfo{Session: strconv.Itoa(found[0].PID)}, len(found) - 1
}

// blameProcess says in an error which process was in the way.
func (c *handle) blameProcess(b *backend.Backend, e *LockError, ask scope.Ask) {
	limit := lookTime
	if e.Err == context.Canceled || e.Err == context.DeadlineExceeded {
		limit = briefLookTime
	}
	p, more := c.inTheWay(b, ask, limit)
	if p == nil {
		return
	}
	e.Process, e.blocker = p, describeProcess(p, more)
	if !p.Since.IsZero() {
		e.Blocked = time.Since(p.Since)
	}
}

func describeProcess(p *ProcessInfo, more int) string {
	if more > 0 {
		return fmt.Sprintf("%v, and %d more", p, more)
	}
	return p.String()
}

// appendOthers appends the holds of other processes, of the users in holds and of all users.
func (c *handle) appendOthers(b *backend.Backend, holds []HoldInfo) []HoldInfo {
	var users []string
	known := make(map[string]bool)
	for _, h := range holds {
		if h.What == "lock" && h.User != "" && !known[h.User] && len(users) < mostSeen {
			known[h.User] = true
			users = append(users, h.User)
		}
	}
	if b.Scope == nil {
		return appendBytes(b, holds, users)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	var others []scope.Other
	server.Contain(c.logger, func() {
		b.Look(ctx, func(sc *server.Conn) (err error) {
			others, err = b.Scope.Others(ctx, sc, users)
			return err
		})
	})
	for _, o := range others {
		h := HoldInfo{What: "lock", User: o.User, Mode: Exclusive, Kind: "process", Process: processInfo(o.LockHolder), Since: o.Since}
		if o.Shared {
			h.Mode = Shared
		}
		if !o.Since.IsZero() {
			h.For = time.Since(o.Since)
		}
		holds = append(holds, h)
	}
	return holds
}

// mostSeen is of how many users Holds asks other processes.
const mostSeen = 500

// appendBytes is appendOthers for a SQLite file.
func appendBytes(b *backend.Backend, holds []HoldInfo, users []string) []HoldInfo {
	until := time.Now().Add(lookTime)
	for _, user := range users {
		if !b.Users.ReachesByBytes(user) {
			continue
		}
		for _, h := range b.Users.Among(user) {
			holds = append(holds, HoldInfo{What: "lock", User: user, Mode: modeAmong(h.Mode), Kind: "process", Process: &ProcessInfo{Session: strconv.Itoa(h.PID)}})
		}
		if time.Now().After(until) {
			break
		}
	}
	return holds
}

func modeAmong(m bytelock.Mode) Mode {
	if m == bytelock.Shared {
		return Shared
	}
	return Exclusive
}
