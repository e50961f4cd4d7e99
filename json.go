package dblocker

import (
	"encoding/json"
	"time"
)

// MarshalJSON implements [json.Marshaler]. Durations are in words, as 1.5s.
func (s Statistics) MarshalJSON() ([]byte, error) {
	type connections struct {
		Max      int    `json:"max"`
		Open     int    `json:"open"`
		InUse    int    `json:"in_use"`
		Idle     int    `json:"idle"`
		MaxIdle  int    `json:"max_idle"`
		Waits    int64  `json:"waits"`
		WaitTime string `json:"wait_time"`
		TooMany  int64  `json:"closed_max_idle"`
		TooIdle  int64  `json:"closed_idle_time"`
		TooOld   int64  `json:"closed_lifetime"`
	}
	type databases struct {
		Open    int            `json:"open"`
		Opened  int64          `json:"opened"`
		Evicted int64          `json:"evicted"`
		Waiting int            `json:"waiting"`
		Waits   WaitStatistics `json:"waits"`
	}
	type statements struct {
		Hits   int64 `json:"hits"`
		Misses int64 `json:"misses"`
		Kept   int   `json:"kept"`
	}
	return json.Marshal(struct {
		Held        int            `json:"held"`
		Waiting     int            `json:"waiting"`
		Locks       WaitStatistics `json:"locks"`
		Connections WaitStatistics `json:"connections"`
		ConnWaiting int            `json:"connections_waiting"`
		Processes   WaitStatistics `json:"processes"`
		HandOvers   int64          `json:"hand_overs"`
		Spills      int64          `json:"spills"`
		Batches     int64          `json:"batches"`
		Combined    int64          `json:"combined"`
		Alone       int64          `json:"alone"`
		Syncs       int64          `json:"syncs"`
		SyncWaits   int64          `json:"sync_waits"`
		Statements  statements     `json:"statements"`
		Databases   databases      `json:"databases"`
		Server      connections    `json:"server"`
	}{s.Held, s.Waiting, s.Locks, s.Connections, s.ConnectionsWaiting, s.Processes, s.HandOvers, s.Spills, s.Batches, s.Combined, s.Alone, s.Syncs, s.SyncWaits,
		statements(s.Statements), databases(s.Databases),
		connections{s.Server.MaxOpenConnections, s.Server.OpenConnections, s.Server.InUse, s.Server.Idle, s.MaxIdle, s.Server.WaitCount, s.Server.WaitDuration.String(),
			s.Server.MaxIdleClosed, s.Server.MaxIdleTimeClosed, s.Server.MaxLifetimeClosed}})
}

// MarshalJSON implements [json.Marshaler].
func (w WaitStatistics) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Waits     int64  `json:"waits"`
		Time      string `json:"time"`
		Timeouts  int64  `json:"timeouts"`
		Deadlocks int64  `json:"deadlocks"`
	}{w.Waits, w.Time.String(), w.Timeouts, w.Deadlocks})
}

// MarshalJSON implements [json.Marshaler].
func (h HoldInfo) MarshalJSON() ([]byte, error) {
	inWords := struct {
		What    string `json:"what"`
		User    string `json:"user"`
		Mode    string `json:"mode"`
		Waiting bool   `json:"waiting"`
		Kind    string `json:"kind"`
		Tag     string `json:"tag,omitempty"`

		Database string `json:"database,omitempty"`

		Request uint64     `json:"request,omitempty"`
		Since   *time.Time `json:"since,omitempty"`
		For     string     `json:"for,omitempty"`

		BlockedBy *HoldInfo    `json:"blocked_by,omitempty"`
		Process   *ProcessInfo `json:"process,omitempty"`
	}{What: h.What, User: h.User, Mode: h.Mode.String(), Waiting: h.Waiting, Kind: h.Kind, Tag: h.Tag, Database: h.Database, Request: h.Request, BlockedBy: h.BlockedBy, Process: h.Process}
	if !h.Since.IsZero() {
		inWords.Since, inWords.For = &h.Since, h.For.String()
	}
	return json.Marshal(inWords)
}
