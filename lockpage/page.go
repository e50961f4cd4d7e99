// Package lockpage shows who holds dblocker's locks and who waits for them, live, on a page of the program's own web server:
//
//	page := new(lockpage.Page)
//	page.Add("app", db)
//	mux.Handle("/debug/dblocker/", page)
//
// The page only reads. It answers requests from its own machine only, unless [Page.Allow] says otherwise. It never shows SQL
// nor arguments; how it shows users is up to [Page.Users]. With [Page.Observe] it also knows what was over before anybody
// looked. Nothing of it runs while nobody has it open.
package lockpage

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
	"weak"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/plain"
)

// A Page is an [http.Handler]. It may be mounted anywhere, with or without [http.StripPrefix] and a slash at the end. The zero Page is
// ready for use. Its fields must not be changed once it is in use.
type Page struct {
	// Allow tells whether a request is answered. If it is nil, only those are for which [Local] reports true.
	Allow func(*http.Request) bool

	// Users returns how a user is shown in place of the ID. If it is nil, IDs are shown as they are. It is called from several
	// goroutines. See [HideUsers] and [HashUsers].
	Users func(id string) string

	mu        sync.Mutex // guards what follows
	databases []*database
	servers   map[weak.Pointer[http.Server]]chan struct{} // closed when one shuts down; a server that is gone is not in it

	hub hub
}

// Add puts a handle on the page, under a name of its own. A handle that was there under that name is replaced.
func (p *Page) Add(name string, db dblocker.Handle) {
	if db == nil {
		db = (*sql.DB)(nil) // the page shows what Stats says of it; no handle at all is one that is to come
	}
	d := p.database(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.db, d.due, d.counted = db, time.Time{}, nil
}

// Remove takes the handle of the name, and what is remembered of it, off the page.
func (p *Page) Remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, d := range p.databases {
		if d.name == name {
			p.databases = append(p.databases[:i:i], p.databases[i+1:]...)
			return
		}
	}
}

// database returns the one of the name.
func (p *Page) database(name string) *database {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.databases {
		if d.name == name {
			return d
		}
	}
	d := &database{page: p, name: name}
	p.databases = append(p.databases[:len(p.databases):len(p.databases)], d)
	return d
}

// all returns the databases. The slice is never changed.
func (p *Page) all() []*database {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.databases
}

// look asks all databases at once. For one that does not answer soon it waits no longer: that one's last answer is shown.
func (p *Page) look() {
	var asked sync.WaitGroup
	now := time.Now()
	for _, d := range p.all() {
		asked.Go(func() { d.look(now) })
	}
	done := make(chan struct{})
	go func() {
		asked.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(prompt):
	}
}

var program = sync.OnceValue(func() string {
	name, err := os.Executable()
	if err != nil {
		name = os.Args[0]
	}
	return filepath.Base(name)
})

// view puts together what was last seen.
func (p *Page) view() *View {
	v := &View{Time: time.Now(), Program: program(), PID: os.Getpid(), Databases: []DatabaseView{}}
	for _, d := range p.all() {
		v.Databases = append(v.Databases, d.seenView(v.Time))
	}
	return v
}

// ServeHTTP implements [http.Handler]. All that the page needs is at its own path, whatever that is: patterns of one path lead to all of it.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	if !p.admit(w, r) {
		return
	}
	switch q := r.URL.Query(); {
	case q.Has("file"):
		serveAsset(w, r, q.Get("file"))
	case q.Has("events"):
		p.serveEvents(w, r)
	default:
		p.servePage(w, r)
	}
}

// servePage serves the page as it is now, or the same as JSON.
func (p *Page) servePage(w http.ResponseWriter, r *http.Request) {
	switch format := r.URL.Query().Get("format"); format {
	case "", "html", "json":
		p.look()
		v := p.view()
		if format == "json" {
			serveJSON(w, v)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(renderPage(v, r.URL.Query().Has("still")))
	default:
		http.Error(w, "dblocker: unknown format; there are html and json.", http.StatusBadRequest)
	}
}

func serveJSON(w http.ResponseWriter, v *View) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(append(plain.JSON(text), '\n'))
}
