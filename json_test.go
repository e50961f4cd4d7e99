package dblocker

import (
	"database/sql"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStatisticsJSON is what a person reads.
func TestStatisticsJSON(t *testing.T) {
	st := Statistics{Held: 1, Waiting: 2, Locks: WaitStatistics{3, 1500 * time.Millisecond, 4, 5}, ConnectionsWaiting: 16, MaxIdle: 17, HandOvers: 6, Spills: 7, Batches: 8, Combined: 9, Alone: 10, Syncs: 11, SyncWaits: 12, Statements: StatementStatistics{13, 14, 15},
		Server: sql.DBStats{MaxOpenConnections: 20, OpenConnections: 3, InUse: 2, Idle: 1, WaitCount: 4, WaitDuration: time.Minute, MaxIdleClosed: 5, MaxIdleTimeClosed: 6, MaxLifetimeClosed: 7}}
	got, err := json.Marshal(st)
	must(t, err)
	const none = `{"waits":0,"time":"0s","timeouts":0,"deadlocks":0}`
	want := `{"held":1,"waiting":2,"locks":{"waits":3,"time":"1.5s","timeouts":4,"deadlocks":5},"connections":` + none + `,"connections_waiting":16,"processes":` + none + `,` +
		`"hand_overs":6,"spills":7,"batches":8,"combined":9,"alone":10,"syncs":11,"sync_waits":12,"statements":{"hits":13,"misses":14,"kept":15},` +
		`"databases":{"open":0,"opened":0,"evicted":0,"waiting":0,"waits":` + none + `},` +
		`"server":{"max":20,"open":3,"in_use":2,"idle":1,"max_idle":17,"waits":4,"wait_time":"1m0s","closed_max_idle":5,"closed_idle_time":6,"closed_lifetime":7}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestHoldsJSON: who waits for whom.
func TestHoldsJSON(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		_, unlock, err := RLock(asUser(1), db, Tag("export"))
		must(t, err)
		go execAs(db, asUser(1))
		synctest.Wait()
		time.Sleep(time.Second)
		go func() {
			if rows, err := db.QueryContext(asUser(1), "SELECT 1"); err == nil {
				rows.Close()
			}
		}()
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		holds, err := Holds(db)
		must(t, err)
		got, err := json.Marshal(holds)
		must(t, err)
		got = regexp.MustCompile(`"request":\d+`).ReplaceAll(got, []byte(`"request":0`))
		const (
			section = `{"what":"lock","user":"1","mode":"shared","waiting":false,"kind":"section","tag":"export","request":0,"since":"2000-01-01T00:00:00Z","for":"1.5s"}`
			write   = `{"what":"lock","user":"1","mode":"exclusive","waiting":true,"kind":"statement","request":0,"since":"2000-01-01T00:00:00Z","for":"1.5s"`
			read    = `{"what":"lock","user":"1","mode":"shared","waiting":true,"kind":"rows","request":0,"since":"2000-01-01T00:00:01Z","for":"500ms"`
		)
		if want := "[" + section + "," + write + `,"blocked_by":` + section + "}," + read + `,"blocked_by":` + write + "}}]"; string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		unlock()
		synctest.Wait()
	})
}

// fillAll gives each field below v a value of its own.
func fillAll(v reflect.Value, n *int64) {
	if *n++; v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(*n, 5).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillAll(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if v.Type() == reflect.TypeFor[*HoldInfo]() {
			v.Elem().Set(reflect.ValueOf(HoldInfo{What: "lock", Mode: Exclusive}))
			return
		}
		fillAll(v.Elem(), n)
	case reflect.String:
		v.SetString(strings.Repeat("\x1b\u009b\u202eé<", int(*n%3+1)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(Exclusive))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		v.SetInt(*n)
	}
}

// TestJSONIsReadBack: each field of what has JSON comes back.
func TestJSONIsReadBack(t *testing.T) {
	for _, empty := range []any{Statistics{}, WaitStatistics{}, HoldInfo{}, ProcessInfo{}} {
		full := reflect.New(reflect.TypeOf(empty)).Elem()
		fillAll(full, new(int64))
		for _, want := range []any{empty, full.Interface()} {
			text, err := json.Marshal(want)
			must(t, err)
			back := reflect.New(reflect.TypeOf(want))
			if err := json.Unmarshal(text, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), want) {
				t.Errorf("%s is read back as %+v, error %v", text, back.Elem(), err)
			}
		}
	}
	for _, wrong := range []string{`{"mode":"none"}`, `{"for":"long"}`, `[]`} {
		if err := json.Unmarshal([]byte(wrong), new(HoldInfo)); err == nil {
			t.Errorf("%s is read as a hold", wrong)
		}
	}
}

// TestNoHoldsAreAList, which programs go through.
func TestNoHoldsAreAList(t *testing.T) {
	holds, err := Holds(openStub(t, &stub{}))
	must(t, err)
	if text, err := json.Marshal(holds); string(text) != "[]" || err != nil {
		t.Errorf("got %s, %v", text, err)
	}
}
