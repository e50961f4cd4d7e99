package dblocker

import (
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/userid"
)

// addStats adds those of all databases of users.
func (t *tenancy) addStats(st *Statistics) {
	t.mu.Lock()
	past := t.past
	t.mu.Unlock()
	st.Batches, st.Combined, st.Alone, st.Syncs, st.Server = past.Batches, past.Combined, past.Alone, past.Syncs, past.Server
	st.Statements = past.Statements
	for _, tn := range t.set.Open() {
		st.add(tn.backend, tn.backend.Servers.Peek())
	}
	n := t.set.Counts()
	st.Databases = DatabaseStatistics{Open: n.Open, Opened: n.Opened, Evicted: n.Evicted, Waiting: n.Waiting, Waits: waitStatistics(&t.placeWaits)}
}

// tenantHolds are what Holds has of a handle with a database for each user, beside the users' locks.
type tenantHolds struct {
	databases []string        // names of users whose gates follow
	gates     [][]rwlock.Info // one each
	places    []rwlock.Info   // nil if nobody waits for one
}

func (t *tenancy) holds() (h tenantHolds) {
	for _, tn := range t.set.Open() {
		if tn.backend.Gate == nil {
			continue
		}
		if infos := tn.backend.Gate.Snapshot(); len(infos) > 0 {
			h.databases = append(h.databases, userid.Encode(tn.user))
			h.gates = append(h.gates, infos)
		}
	}
	if t.set.Counts().Waiting > 0 {
		h.places = t.set.Places()
	}
	return h
}

func (h *tenantHolds) infos() [][]rwlock.Info {
	return append(h.gates[:len(h.gates):len(h.gates)], h.places)
}

// nameDatabases says whose database the users' locks are in.
func (h *tenantHolds) nameDatabases(holds []HoldInfo) {
	for i := range holds {
		if user := holds[i].User; user != "" {
			holds[i].Database = userid.Encode(user)
		}
	}
}

// appendTo appends the gates, and the places, whose tag is the user of the database.
func (h *tenantHolds) appendTo(holds []HoldInfo, requests rwlock.Lines, who workers) []HoldInfo {
	for i, infos := range h.gates {
		n := len(holds)
		holds = appendHolds(holds, "gate", infos, requests, who)
		for ; n < len(holds); n++ {
			holds[n].Database = h.databases[i]
		}
	}
	n := len(holds)
	holds = appendHolds(holds, "database", h.places, requests, nil)
	for ; n < len(holds); n++ {
		holds[n].User, holds[n].Tag = holds[n].Tag, ""
		holds[n].Database = userid.Encode(holds[n].User)
	}
	return holds
}
