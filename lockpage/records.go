package lockpage

import (
	"cmp"
	"slices"
	"time"

	"github.com/calmdocs/dblocker"
)

// A Record is a hold or a wait that was among the longest of the last quarter of an hour.
type Record struct {
	Hold
	Ended   time.Time `json:"seen"` // when it was last seen
	Outcome string    `json:"outcome,omitempty"`

	key recordKey
}

type recordKey struct {
	thing
	request uint64
	begin   int64 // in milliseconds, which is how exactly it is known
}

// records are the longest of their kind, in their order.
type records []Record

const (
	mostRecords = 8
	recordsLast = 15 * time.Minute
)

// note keeps a record if it is one of the longest; of one hold that is seen again and again, the last.
func (rs *records) note(now time.Time, r Record) {
	list := slices.DeleteFunc(*rs, func(o Record) bool {
		return now.Sub(o.Ended) > recordsLast || o.isOf(r) && o.lasts <= r.lasts
	})
	if !slices.ContainsFunc(list, r.isOf) {
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b Record) int { return cmp.Compare(b.lasts, a.lasts) })
	clear(list[min(len(list), mostRecords):])
	*rs = list[:min(len(list), mostRecords)]
}

// isOf reports whether both are of one hold or wait. Events do not tell the request, and the clocks of two looks differ a little.
func (r Record) isOf(o Record) bool {
	begin := r.key.begin - o.key.begin
	return r.key.thing == o.key.thing && r.Kind == o.Kind && r.Mode == o.Mode && -5 <= begin && begin <= 5 &&
		(r.key.request == o.key.request || r.key.request == 0 || o.key.request == 0)
}

// isShort tells of what would not be a record.
func (rs records) isShort(now time.Time, d time.Duration) bool {
	if d < time.Millisecond || len(rs) < mostRecords {
		return d < time.Millisecond
	}
	last := &rs[mostRecords-1]
	return d <= last.lasts && now.Sub(last.Ended) < recordsLast
}

// record makes one of a hold or wait as it is now.
func (p *Page) record(now time.Time, i dblocker.HoldInfo) Record {
	return Record{Hold: p.take(i), Ended: now, key: recordKey{thingOf(&i), i.Request, now.Add(-i.For).UnixMilli()}}
}

// seeRecords looks at the oldest holds and waits, which come first.
func (d *database) seeRecords(now time.Time, holds []dblocker.HoldInfo) {
	const oldest = 2 * mostRecords
	held, waiting := 0, 0
	for i := range holds {
		n, rs := &held, &d.holds
		if holds[i].Waiting {
			n, rs = &waiting, &d.waits
		}
		if *n++; *n <= oldest && holds[i].What != "connection" && !rs.isShort(now, holds[i].For) {
			rs.note(now, d.page.record(now, holds[i]))
		}
		if held > oldest && waiting > oldest {
			return
		}
	}
}

// recent returns the records that have not become old.
func (rs records) recent(now time.Time) []Record {
	return slices.DeleteFunc(slices.Clone(rs), func(r Record) bool { return now.Sub(r.Ended) > recordsLast })
}
