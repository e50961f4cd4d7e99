package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/userid"
)

// The tags of sections in which a function of the program runs.
const tagOnOpen, tagEachUser = "OnOpen", "EachUser"

// A prepared is what OnOpen has done to a database since it was opened.
type prepared struct {
	done    atomic.Bool
	running atomic.Pointer[section] // that it runs in; nil if it does not run

	mu    sync.Mutex // guards what follows
	fails int
	err   error // of the last one that failed
}

func (p *prepared) failed() (fails int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fails, p.err
}

// ready has the database prepared, unless it is.
func (t *tenancy) ready(ctx context.Context, tn *tenant) error {
	if t.c.onOpen == nil && t.schemas == nil || tn.prepare.done.Load() {
		return nil
	}
	return t.prepare(ctx, tn)
}

// prepare runs OnOpen under the user's exclusive lock. Whoever has waited for that meanwhile, and finds that it has failed, has the same error.
func (t *tenancy) prepare(ctx context.Context, tn *tenant) error {
	p := &tn.prepare
	if s := p.running.Load(); s != nil && marksFrom(ctx).section.isInside(s) {
		return nil
	}
	before, _ := p.failed()
	id, _ := identityFrom(ctx)
	tn.backend.Retain()
	s, err := t.c.beginOn(ctx, tn.backend, locks.Identity{User: tn.user, Owner: id.Owner}, nil, sectionRequest{mode: Exclusive, tag: tagOnOpen})
	if err != nil {
		return err
	}
	defer s.unlock()
	if p.done.Load() {
		return nil
	}
	if fails, err := p.failed(); fails > before {
		return err
	}
	p.running.Store(s)
	defer p.running.Store(nil)
	err = t.callOnOpen(s, tn)
	if err == nil {
		p.done.Store(true)
	} else if ctx.Err() == nil { // else the error may be that of its context
		p.mu.Lock()
		p.fails, p.err = p.fails+1, err
		p.mu.Unlock()
	}
	return err
}

// callOnOpen calls the program's function, on a goroutine of its own: if it ends that, the caller goes on.
func (t *tenancy) callOnOpen(s *section, tn *tenant) error {
	result := make(chan error, 1)
	go func() {
		err := fmt.Errorf("dblocker: OnOpen ended its goroutine for user %s, by runtime.Goexit or as t.FailNow does; return an error instead", userid.Brief(tn.user))
		defer func() { result <- err }()
		err = t.runOnOpen(s, tn)
	}()
	return <-result
}

func (t *tenancy) runOnOpen(s *section, tn *tenant) (err error) {
	db := t.c.bindDB(s)
	defer db.Close()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dblocker: OnOpen panicked for user %s: %v", userid.Brief(tn.user), p)
			t.c.logger.Error("dblocker: OnOpen panicked", "user", userid.Short(tn.user), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if err := t.checkSchemas(s, tn.user, db); err != nil || t.c.onOpen == nil {
		return err
	}
	return t.c.onOpen(s, tn.user, db)
}

// begin returns a section of the user id, which has that user's database in use; or one of several users, or of all, whose
// locks are in the table that all databases of the handle share.
func (t *tenancy) begin(ctx context.Context, id locks.Identity, bound *section, req sectionRequest) (*section, error) {
	user := id.User
	if len(req.users) == 1 {
		user = req.users[0]
	}
	if req.all || len(req.users) > 1 {
		return t.beginOfSeveral(ctx, id, bound, req)
	}
	e, err := t.take(ctx, user)
	if err != nil {
		return nil, err
	}
	leave := sync.OnceFunc(func() { t.leave(e) }) // the section may have begun, and ended, if there is an error
	began := false
	defer func() {
		if !began {
			leave()
		}
	}()
	if err := t.ready(ctx, e.On); err != nil {
		return nil, err
	}
	gone := req.gone
	req.gone = func(s *section) {
		if gone != nil {
			defer gone(s)
		}
		leave()
	}
	e.On.backend.Retain()
	s, err := t.c.beginOn(ctx, e.On.backend, id, bound, req)
	began = err == nil
	return s, err
}

// beginOfSeveral begins a section that is on no user's database. What is done inside has that of its user in use.
func (t *tenancy) beginOfSeveral(ctx context.Context, id locks.Identity, bound *section, req sectionRequest) (*section, error) {
	if req.pin {
		return nil, errPinOfSeveral
	}
	leave := func() {}
	if t.c.lockScope == DatabaseScope && t.name != "" {
		var err error
		if leave, err = t.takeAll(ctx, req); err != nil {
			return nil, err
		}
		req.among = true
	}
	gone := req.gone
	req.gone = func(s *section) {
		if gone != nil {
			defer gone(s)
		}
		leave()
	}
	b, err := t.retainNobody()
	if err != nil {
		leave()
		return nil, err
	}
	s, err := t.c.beginOn(ctx, b, id, bound, req)
	if err != nil {
		leave()
	}
	return s, err
}

// takeAll opens the databases of the users of a section whose locks are in their files.
func (t *tenancy) takeAll(ctx context.Context, req sectionRequest) (leave func(), err error) {
	switch {
	case t.c.engine != sqlite.Engine || req.all:
		return nil, errScopeOfSeveral
	case t.maxOpen > 0 && len(req.users) > t.maxOpen:
		return nil, fmt.Errorf("dblocker: LockUsers of %d users, whose locks among processes are in their files, of which max_open_databases allows %d to be open", len(req.users), t.maxOpen)
	}
	var turn rwlock.Hold
	turn.Kind, turn.Label = rwlock.Session, rwlock.Tagged("LockUsers")
	owner := locks.Identity{Owner: marksFrom(ctx).owner}.LockOwner()
	t.set.Awaits(owner, 1) // who has the turn may wait for a place that this one has
	err = t.gather.Acquire(ctx, rwlock.Shared, &turn, t.c.wait())
	t.set.Awaits(owner, -1)
	if err != nil {
		return nil, placeError(req.users[0], t.maxOpen, err)
	}
	defer turn.Release()
	var taken []*tenantEntry
	leave = sync.OnceFunc(func() {
		for _, e := range taken {
			t.leave(e)
		}
	})
	for _, user := range req.users {
		e, err := t.take(ctx, user)
		if err != nil {
			leave()
			return nil, err
		}
		taken = append(taken, e)
	}
	return leave, nil
}

var errScopeOfSeveral = errors.New("dblocker: with lock_scope=database and a database for each user, each user's lock is in a database of its own, so that no section bars all of them, and on a server none bars several: " +
	"take dblocker.EachUser, or dblocker.Lock for each user, in one order")

var errPinOfSeveral = errors.New("dblocker: Pin is for a section of one user, on a handle with a database for each user: begin one with dblocker.Lock for each of them, inside this one")

// retainNobody returns what is behind sections of several users, retained for the caller.
func (t *tenancy) retainNobody() (*backend.Backend, error) {
	tn, err := t.forNobody()
	if err != nil {
		return nil, err
	}
	tn.backend.Retain()
	return tn.backend, nil
}

// lockTable returns the users' locks of all databases; nil if there was no call for it yet.
func (t *tenancy) lockTable() *locks.Table {
	b, err := t.retainNobody()
	if err != nil {
		return nil
	}
	defer b.Release()
	return b.Users
}

// checkSchemas looks whether the schemas are there that the user's connections look into: PostgreSQL would silently take the next one.
func (t *tenancy) checkSchemas(ctx context.Context, user string, db *sql.DB) error {
	for _, schema := range t.schemas {
		schema = strings.ReplaceAll(schema, userMark, userid.Encode(user))
		var n int
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1", schema).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return noDatabase(user, fmt.Sprintf("the schema %s is not there", schema))
		}
	}
	return nil
}
