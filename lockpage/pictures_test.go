package lockpage

import (
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

var pictures = flag.String("lockpage.pictures", "", "take the pictures of the docs, into this directory")

var whole = flag.Bool("lockpage.whole", false, "take pictures of the whole page too")

// TestPictures takes the pictures of the docs. Look at them after a change of how the page looks.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("without -lockpage.pictures")
	}
	c := startChromium(t)
	page := new(Page)
	db := openSQLite(t, dblocker.Trace(true), dblocker.Observe(page.Observe("app.db")))
	page.Add("app.db", db)
	page.Add("sessions.db", openSQLite(t))
	server := httptest.NewServer(page)
	defer server.Close()
	calm := c.tab(server.URL)
	calm.resize(1200, 640, "light")
	calm.until("document.documentElement.classList.contains('is-live')")
	calm.picture(filepath.Join(*pictures, "lockpage-calm.png"))

	s := newScene(t, db)
	load, stop := context.WithTimeout(s.ctx, 25*time.Second)
	defer stop()
	s.load(load, 8, 4)
	for i := range 3 {
		<-time.After(time.Duration(i+1) * time.Second)
		s.deadlock("ann", "bob")
	}
	<-load.Done()
	inside := s.holds("carol", "nightly export")
	s.holds("dave", "import of mailbox")
	for i := range 9 {
		s.wants(s.ctx, "dave", fmt.Sprint("save draft ", i+1))
	}
	for range 2 {
		s.wants(s.ctx, "carol", "list files")
	}
	s.wants(inside, "dave", "copy attachments")
	s.holds("erin", "rename folder")
	s.wants(s.ctx, "erin", "upload")
	tx, err := db.BeginTx(dblocker.WithUser(s.ctx, "frank"), nil)
	must(t, err)
	defer tx.Rollback()
	_, err = tx.Exec("UPDATE t SET v = 1")
	must(t, err)
	s.wg.Go(func() { db.ExecContext(dblocker.WithUser(s.ctx, "grace"), "INSERT INTO t VALUES ('x', 0)") })
	for _, p := range []struct {
		name, scheme  string
		width, height int
	}{{"light", "light", 1200, 1150}, {"dark", "dark", 1200, 1150}, {"narrow", "dark", 400, 1150}} {
		tb := c.tab(server.URL)
		tb.resize(p.width, p.height, p.scheme)
		tb.until("document.querySelector('.box.bad') && document.documentElement.classList.contains('is-live')")
		tb.picture(filepath.Join(*pictures, "lockpage-"+p.name+".png"))
		if *whole {
			tb.resize(p.width, 3000, p.scheme)
			tb.picture(filepath.Join(*pictures, "whole-"+p.name+".png"))
		}
		tb.close()
	}
	must(t, tx.Rollback())
}
