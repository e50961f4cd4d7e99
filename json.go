package dblocker

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/plain"
)

// In JSON a duration is in words, as 1.5s, and so is a mode. What is not seen of a text from outside is written in escapes, and bytes that
// are not UTF-8 as \xff. But for these bytes, what is read back is what was written.

type durationInWords time.Duration

func (d durationInWords) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *durationInWords) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = durationInWords(parsed)
	return err
}

type modeInWords Mode

func (m modeInWords) MarshalText() ([]byte, error) { return []byte(Mode(m).String()), nil }

func (m *modeInWords) UnmarshalText(text []byte) error {
	for _, mode := range []Mode{Shared, Exclusive} {
		if mode.String() == string(text) {
			*m = modeInWords(mode)
			return nil
		}
	}
	return fmt.Errorf("dblocker: unknown mode %q; there are shared and exclusive", text)
}

type statisticsInWords struct {
	Held        int                `json:"held"`
	Waiting     int                `json:"waiting"`
	Locks       WaitStatistics     `json:"locks"`
	Connections WaitStatistics     `json:"connections"`
	ConnWaiting int                `json:"connections_waiting"`
	Processes   WaitStatistics     `json:"processes"`
	HandOvers   int64              `json:"hand_overs"`
	Spills      int64              `json:"spills"`
	Batches     int64              `json:"batches"`
	Combined    int64              `json:"combined"`
	Alone       int64              `json:"alone"`
	Syncs       int64              `json:"syncs"`
	SyncWaits   int64              `json:"sync_waits"`
	Statements  statementsInWords  `json:"statements"`
	Databases   databasesInWords   `json:"databases"`
	Server      connectionsInWords `json:"server"`
}

type statementsInWords struct {
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
	Kept   int   `json:"kept"`
}

type databasesInWords struct {
	Open    int            `json:"open"`
	Opened  int64          `json:"opened"`
	Evicted int64          `json:"evicted"`
	Waiting int            `json:"waiting"`
	Waits   WaitStatistics `json:"waits"`
}

type connectionsInWords struct {
	MaxOpenConnections int             `json:"max"`
	OpenConnections    int             `json:"open"`
	InUse              int             `json:"in_use"`
	Idle               int             `json:"idle"`
	MaxIdle            int             `json:"max_idle"`
	WaitCount          int64           `json:"waits"`
	WaitDuration       durationInWords `json:"wait_time"`
	MaxIdleClosed      int64           `json:"closed_max_idle"`
	MaxIdleTimeClosed  int64           `json:"closed_idle_time"`
	MaxLifetimeClosed  int64           `json:"closed_lifetime"`
}

// MarshalJSON implements [json.Marshaler]. Durations are in words, as 1.5s.
func (s Statistics) MarshalJSON() ([]byte, error) {
	c := &s.Server
	return json.Marshal(statisticsInWords{s.Held, s.Waiting, s.Locks, s.Connections, s.ConnectionsWaiting, s.Processes, s.HandOvers, s.Spills, s.Batches, s.Combined, s.Alone, s.Syncs, s.SyncWaits,
		statementsInWords(s.Statements), databasesInWords(s.Databases),
		connectionsInWords{c.MaxOpenConnections, c.OpenConnections, c.InUse, c.Idle, s.MaxIdle, c.WaitCount, durationInWords(c.WaitDuration), c.MaxIdleClosed, c.MaxIdleTimeClosed, c.MaxLifetimeClosed}})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Statistics) UnmarshalJSON(text []byte) error {
	var w statisticsInWords
	err := json.Unmarshal(text, &w)
	c := &w.Server
	*s = Statistics{w.Held, w.Waiting, w.Locks, w.Connections, w.ConnWaiting, w.Processes, w.HandOvers, w.Spills, w.Batches, w.Combined, w.Alone, w.Syncs, w.SyncWaits,
		StatementStatistics(w.Statements), DatabaseStatistics(w.Databases),
		sql.DBStats{MaxOpenConnections: c.MaxOpenConnections, OpenConnections: c.OpenConnections, InUse: c.InUse, Idle: c.Idle, WaitCount: c.WaitCount, WaitDuration: time.Duration(c.WaitDuration),
			MaxIdleClosed: c.MaxIdleClosed, MaxIdleTimeClosed: c.MaxIdleTimeClosed, MaxLifetimeClosed: c.MaxLifetimeClosed}, c.MaxIdle}
	return err
}

type waitsInWords struct {
	Waits     int64           `json:"waits"`
	Time      durationInWords `json:"time"`
	Timeouts  int64           `json:"timeouts"`
	Deadlocks int64           `json:"deadlocks"`
}

// MarshalJSON implements [json.Marshaler].
func (w WaitStatistics) MarshalJSON() ([]byte, error) {
	return json.Marshal(waitsInWords{w.Waits, durationInWords(w.Time), w.Timeouts, w.Deadlocks})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (w *WaitStatistics) UnmarshalJSON(text []byte) error {
	var in waitsInWords
	err := json.Unmarshal(text, &in)
	*w = WaitStatistics{in.Waits, time.Duration(in.Time), in.Timeouts, in.Deadlocks}
	return err
}

type holdInWords struct {
	What    string      `json:"what"`
	User    string      `json:"user"`
	Mode    modeInWords `json:"mode"`
	Waiting bool        `json:"waiting"`
	Kind    string      `json:"kind"`
	Tag     string      `json:"tag,omitempty"`

	Database string `json:"database,omitempty"`

	Request uint64           `json:"request,omitempty"`
	Since   time.Time        `json:"since,omitzero"`
	For     *durationInWords `json:"for,omitempty"`

	BlockedBy *HoldInfo    `json:"blocked_by,omitempty"`
	Process   *ProcessInfo `json:"process,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (h HoldInfo) MarshalJSON() ([]byte, error) {
	w := holdInWords{plain.UTF8(h.What), plain.UTF8(h.User), modeInWords(h.Mode), h.Waiting, plain.UTF8(h.Kind), plain.UTF8(h.Tag), plain.UTF8(h.Database), h.Request, h.Since, nil, h.BlockedBy, h.Process}
	if !h.Since.IsZero() || h.For != 0 {
		w.For = (*durationInWords)(&h.For)
	}
	return plainJSON(w)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (h *HoldInfo) UnmarshalJSON(text []byte) error {
	var w holdInWords
	err := json.Unmarshal(text, &w)
	*h = HoldInfo{w.What, w.User, Mode(w.Mode), w.Waiting, w.Kind, w.Tag, w.Database, w.Request, w.Since, 0, w.BlockedBy, w.Process}
	if w.For != nil {
		h.For = time.Duration(*w.For)
	}
	return err
}

// MarshalJSON implements [json.Marshaler].
func (p ProcessInfo) MarshalJSON() ([]byte, error) {
	type words ProcessInfo
	return plainJSON(words{plain.UTF8(p.Session), plain.UTF8(p.Name), plain.UTF8(p.Address), plain.UTF8(p.State), p.Since})
}

func plainJSON(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return plain.JSON(text), err
}
