package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// How many users the suite "tenants" knows, how many have a database open where not all have, and how many work where all have.
const knownTenants, openTenants, busyTenants = 10_000, 200, 1000

// A tenantLoad is a workload of the suite "tenants".
type tenantLoad struct {
	load
	against string // the contender that is the baseline
	open    span   // the users whose databases are open when it begins; no others write
	most    int    // databases that may be open
	settles int    // slices of warm-up, in which a user who is served twice at once gets his second connection; 0 is a fifth of one
}

// A span is users that follow each other.
type span struct{ first, last int }

var (
	everybody = span{1, knownTenants}
	few       = span{1, openTenants}
	latest    = span{knownTenants - openTenants + 1, knownTenants}
	active    = span{1, busyTenants}
	resident  = crowd{20, 1, 20, ownUser, read}

	against = func(s, baseline, _ sample) float64 { return baseline.rate / s.rate }
	byTime  = verdict{"time / " + inMap, against}
	busy    = verdict{"ops/s / " + inOneFile, throughput.value}
)

var tenantLoads = []tenantLoad{
	{load{"hit-query/1", []crowd{{1, 1, 1, ownUser, read}}, byTime}, inMap, few, openTenants, 0},
	{load{"hit-exec/1", []crowd{{1, 1, 1, ownUser, update}}, byTime}, inMap, few, openTenants, 0},
	{load{"hit-query/16", []crowd{few.crowd(16, anyUser, read)}, byTime}, inMap, few, openTenants, 4},
	{load{"hit-exec/16", []crowd{few.crowd(16, anyUser, update)}, byTime}, inMap, few, openTenants, 4},
	{load{"miss/1", []crowd{everybody.crowd(1, inTurn, read)}, byTime}, inMap, latest, openTenants, 0},
	{load{"miss/16", []crowd{everybody.crowd(16, inTurn, read)}, byTime}, inMap, latest, openTenants, 0},
	{load{"mix", []crowd{active.crowd(64, anyUser, mix)}, busy}, inOneFile, active, busyTenants, 4},
	{load{"writers", []crowd{active.crowd(64, anyUser, update)}, busy}, inOneFile, active, busyTenants, 4},
	{load{quietTenants, []crowd{resident}, busy}, inOneFile, few, openTenants, 0},
	{load{"opening", []crowd{resident, everybody.crowd(2, inTurn, visit)}, disturbance}, quietTenants, few, openTenants, 0},
}

const quietTenants = "quiet"

func (s span) crowd(size int, who choice, does action) crowd {
	return crowd{size, s.first, s.last, who, does}
}

// visit is a read that is timed among the writes, so that the reads are those of last.
func visit(ctx context.Context, s store, user int, dice *rand.Rand, t *tally) error {
	var aside tally
	err := read(ctx, s, user, dice, &aside)
	t.writes = append(t.writes, aside.reads...)
	return err
}

// tenants is how many users are known, and how many of them have a database open.
func (p plan) tenants() (known, open int) {
	if p.crowd == 0 {
		return knownTenants, openTenants
	}
	return 6 * p.crowd, 2 * p.crowd
}

// limited is the workload with as few users as the plan has.
func (l tenantLoad) limited(p plan) tenantLoad {
	if p.crowd == 0 {
		return l
	}
	known, open := p.tenants()
	l.most = open
	if l.open == latest {
		l.open = span{known - open + 1, known}
	} else {
		l.open.last = min(l.open.last, open)
	}
	crowds := make([]crowd, len(l.crowds))
	for i, c := range l.crowds {
		c.last = min(c.last, known)
		if c.who != inTurn {
			c.last = min(c.last, open)
		}
		crowds[i] = c
	}
	l.crowds = crowds
	return l
}

// tenantSuite compares the ways to keep the data of so many users at one place.
func tenantSuite(ctx context.Context, d *databases, p place, sel selection, users int) ([]*comparison, error) {
	if !slices.ContainsFunc(tenantLoads, func(l tenantLoad) bool { return sel.workload.MatchString(l.name) }) && !sel.workload.MatchString(memoryWorkload) {
		return nil, nil
	}
	path, err := d.file(p.dir)
	if err != nil {
		return nil, err
	}
	files, err := createTenants(ctx, path, tenants[1:users+1])
	if err != nil {
		return nil, err
	}
	var contenders []tenantContender
	for _, w := range homeWays {
		if w.name == byHand || w.name == inMap || w.name == inOneFile || sel.contender.MatchString(w.name) {
			contenders = append(contenders, tenantContender{w, files})
		}
	}
	var all []*comparison
	var quiet *comparison
	for _, l := range tenantLoads {
		if !sel.workload.MatchString(l.name) {
			continue
		}
		c := compareTenants(p, l, contenders)
		if l.name == quietTenants {
			quiet = c
		}
		c.judge(l.verdict, quiet)
		all = append(all, c)
	}
	if sel.workload.MatchString(memoryWorkload) {
		all = append(all, compareMemory(p, contenders))
	}
	return all, nil
}

func compareTenants(p place, l tenantLoad, contenders []tenantContender) *comparison {
	compared := &comparison{where: p.name, workload: l.name}
	for _, contender := range contenders {
		e := &entry{
			contender: contender.name,
			open:      func(ctx context.Context, p plan) (*trial, error) { return contender.trial(ctx, l.limited(p), p) },
		}
		if contender.name == l.against {
			compared.baseline = e
		}
		compared.entries = append(compared.entries, e)
	}
	if compared.baseline == nil { // it is another workload that the figure is against
		compared.baseline = compared.entries[0]
	}
	return compared
}

// A tenantContender is a way to keep users' data, and where that is.
type tenantContender struct {
	homeWay
	files tenantFiles
}

// trial opens the way for one slice. To sum up the counters, which comes first, opens the databases that are open when the workload begins.
func (tc tenantContender) trial(ctx context.Context, l tenantLoad, p plan) (*trial, error) {
	h, err := tc.homeWay.open(tc.files, l.most)
	if err != nil {
		return nil, err
	}
	s := &tenantStore{home: h}
	return &trial{
		workers: l.workers(ctx, s, p),
		settles: time.Duration(l.settles) * p.slice,
		sum:     func(ctx context.Context) (int, error) { return s.sumOf(ctx, l.open) },
		close:   h.close,
	}, nil
}

// A tenantStore is a home as the workloads see it. It has no more of a store than they need.
type tenantStore struct {
	store
	home home
}

func (s *tenantStore) read(ctx context.Context, user int) error {
	_, err := s.count(ctx, user)
	return err
}

// count reads the counter of a user, which tells whose it is.
func (s *tenantStore) count(ctx context.Context, user int) (n int, err error) {
	ctx, db, giveBack, err := s.home.take(ctx, tenants[user], false)
	if err != nil {
		return 0, err
	}
	defer giveBack()
	var name string
	err = db.QueryRowContext(ctx, "SELECT name, n FROM counters WHERE name = ?", tenants[user]).Scan(&name, &n)
	if err == nil && name != tenants[user] {
		err = fmt.Errorf("the counter of user %s was read as that of %s", tenants[user], name)
	}
	return n, err
}

func (s *tenantStore) update(ctx context.Context, user int) error {
	ctx, db, giveBack, err := s.home.take(ctx, tenants[user], true)
	if err != nil {
		return err
	}
	defer giveBack()
	return checkUpdate(db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", tenants[user]))
}

func (s *tenantStore) sumOf(ctx context.Context, users span) (sum int, err error) {
	for user := users.first; user <= users.last; user++ {
		n, err := s.count(ctx, user)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
