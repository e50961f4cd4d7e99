package lockpage

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// An eventReader reads the events of a page.
type eventReader struct {
	t    testing.TB
	body io.Closer
	s    *bufio.Scanner
}

// events opens the stream of a server.
func events(t testing.TB, server *httptest.Server) *eventReader {
	t.Helper()
	answer, err := server.Client().Get(server.URL + "/debug/?events")
	must(t, err)
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s, %v", answer.Status, answer.Header)
	}
	r := &eventReader{t, answer.Body, bufio.NewScanner(answer.Body)}
	r.s.Buffer(nil, 16<<20)
	t.Cleanup(func() { r.body.Close() })
	return r
}

// next returns the parts of the next frame, or the name of another event; "" at the end.
func (r *eventReader) next() (parts map[string]string, name string) {
	for r.s.Scan() {
		line := r.s.Text()
		if n, ok := strings.CutPrefix(line, "event: "); ok {
			return nil, n
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var frame struct{ Parts map[string]string }
			must(r.t, json.Unmarshal([]byte(data), &frame))
			return frame.Parts, "frame"
		}
	}
	return nil, ""
}

// until reads frames until a part contains a text.
func (r *eventReader) until(text string) {
	r.t.Helper()
	for {
		parts, name := r.next()
		if name != "frame" {
			r.t.Fatalf("the stream has ended with %q before it said %q", name, text)
		}
		for _, html := range parts {
			if strings.Contains(html, text) {
				return
			}
		}
	}
}

// TestChangesAreStreamed: a slow holder, who waits for it, and its end come by themselves, and only what has changed is sent.
func TestChangesAreStreamed(t *testing.T) {
	testdb.NoLeaks(t)
	page := new(Page)
	db := openSQLite(t)
	page.Add("app", db)
	server := httptest.NewServer(page)
	defer server.Close()
	r := events(t, server)
	if parts, _ := r.next(); len(parts) != 1+len(panels) {
		t.Errorf("the first frame has %d parts", len(parts))
	}
	s := newScene(t, db)
	s.holds("ann", "slow holder")
	s.wants(s.ctx, "ann", "who waits")
	r.until("slow holder")
	s.end()
	r.until("Nobody waits.")
	for {
		parts, name := r.next()
		if name != "frame" {
			t.Fatal("the stream has ended")
		}
		if len(parts) < 1+len(panels) {
			break
		}
	}
	r.body.Close()
}

// TestNothingRunsWhileNobodyLooks: the goroutine that looks is there while somebody has the page open, once for all, and the
// handle is not asked more often for more of them.
func TestNothingRunsWhileNobodyLooks(t *testing.T) {
	testdb.NoLeaks(t)
	page := new(Page)
	page.Add("app", openSQLite(t))
	server := httptest.NewServer(page)
	defer server.Close()
	var readers []*eventReader
	for range 5 {
		readers = append(readers, events(t, server))
	}
	for _, r := range readers {
		if _, name := r.next(); name != "frame" {
			t.Fatalf("got %q", name)
		}
	}
	first := page.view().Databases[0].As
	last, looks := first, 0
	for ; looks < 4; time.Sleep(time.Millisecond) {
		if as := page.view().Databases[0].As; as != last {
			last, looks = as, looks+1
		}
	}
	if took := last.Sub(first); took < 3*often {
		t.Errorf("the handle was asked %d times in %v", looks, took)
	}
	for _, r := range readers {
		r.body.Close()
	}
	for idle := false; !idle; time.Sleep(time.Millisecond) {
		page.hub.mu.Lock()
		idle = page.hub.viewers == 0 && page.hub.stop == nil && page.hub.streams == 0
		page.hub.mu.Unlock()
	}
}

// A stuckHandle does not answer until it is told to.
type stuckHandle struct {
	*sql.DB
	answer chan struct{}
}

func (h *stuckHandle) Conn(ctx context.Context) (*sql.Conn, error) {
	<-h.answer
	return h.DB.Conn(ctx)
}

// TestHandleThatDoesNotAnswerDelaysNoOther: what is known of the others comes in time.
func TestHandleThatDoesNotAnswerDelaysNoOther(t *testing.T) {
	testdb.NoLeaks(t)
	page := new(Page)
	stuck := &stuckHandle{openSQLite(t), make(chan struct{})}
	page.Add("stuck", stuck)
	db := openSQLite(t)
	page.Add("app", db)
	s := newScene(t, db)
	s.holds("ann", "held here")
	s.wants(s.ctx, "ann", "waits here")
	server := httptest.NewServer(page)
	defer server.Close()
	r := events(t, server)
	r.until("waits here")
	if text := get(page, "/").Body.String(); !strings.Contains(text, "waits here") {
		t.Error("the page does not show the handle that answers")
	}
	r.body.Close()
	close(stuck.answer)
}

// TestHandleThatPanicsIsOnlyShownSo: the program goes on, and so does the page.
func TestHandleThatPanicsIsOnlyShownSo(t *testing.T) {
	page := new(Page)
	page.Add("app", panickingHandle{})
	for range 2 {
		page.Add("app", panickingHandle{})
		if text := get(page, "/").Body.String(); !strings.Contains(text, "looking at it has panicked") {
			t.Errorf("the page:\n%s", text)
		}
	}
}

type panickingHandle struct{}

func (panickingHandle) Conn(context.Context) (*sql.Conn, error) { panic("no connection") }

// TestShutdownEndsStreams: a server that shuts down does not wait for who has the page open.
func TestShutdownEndsStreams(t *testing.T) {
	testdb.NoLeaks(t)
	server := httptest.NewServer(new(Page))
	defer server.Close()
	r, other := events(t, server), events(t, server)
	r.next()
	other.next()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(t, server.Config.Shutdown(ctx))
	for _, r := range []*eventReader{r, other} {
		for name := "frame"; name != "bye"; {
			if _, name = r.next(); name == "" {
				t.Fatal("the stream has ended without a word")
			}
		}
	}
	server.Config.Shutdown(ctx) // once more is once too often for nobody
}

// TestStreamOutlivesWriteTimeout: the limit of the server for an answer is not that of a stream, and is again that of the
// connection's next answer.
func TestStreamOutlivesWriteTimeout(t *testing.T) {
	testdb.NoLeaks(t)
	server := httptest.NewUnstartedServer(new(Page))
	server.Config.WriteTimeout = 300 * time.Millisecond
	server.Start()
	defer server.Close()
	page := server.Config.Handler.(*Page)
	r := events(t, server)
	for begin := time.Now(); time.Since(begin) < 4*server.Config.WriteTimeout; {
		page.Add(time.Now().String(), nil) // has the page change
		if _, name := r.next(); name == "" {
			t.Fatal("the stream has ended")
		}
	}
	r.body.Close()
}

// TestWhoDoesNotReadIsGivenUp: a client that stops reading keeps nothing of the program for long.
func TestWhoDoesNotReadIsGivenUp(t *testing.T) {
	testdb.NoLeaks(t)
	w := &stuckWriter{header: make(http.Header), deadline: make(chan time.Time, 100)}
	page := new(Page)
	done := make(chan struct{})
	go func() {
		defer close(done)
		page.ServeHTTP(w, local("GET", "/?events"))
	}()
	<-done
	if d := <-w.deadline; time.Until(d) > writeLimit {
		t.Errorf("a write may take until %v", d)
	}
	page.hub.mu.Lock()
	defer page.hub.mu.Unlock()
	if page.hub.viewers != 0 || page.hub.streams != 0 {
		t.Error("it still counts")
	}
}

// A stuckWriter takes nothing.
type stuckWriter struct {
	header   http.Header
	deadline chan time.Time
}

func (w *stuckWriter) Header() http.Header { return w.header }
func (w *stuckWriter) WriteHeader(int)     {}
func (w *stuckWriter) FlushError() error   { return nil }
func (w *stuckWriter) SetWriteDeadline(t time.Time) error {
	w.deadline <- t
	return nil
}
func (w *stuckWriter) Write([]byte) (int, error) {
	return 0, &net.OpError{Op: "write", Err: errors.New("i/o timeout")}
}

// TestMiddlewareThatHidesFlusher: behind a writer that can neither flush nor take a deadline the stream is a short one, and the browser comes again.
func TestMiddlewareThatHidesFlusher(t *testing.T) {
	testdb.NoLeaks(t)
	page := new(Page)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { page.ServeHTTP(noUnwrap{w}, r) }))
	defer server.Close()
	r := events(t, server)
	if _, name := r.next(); name != "frame" {
		t.Errorf("got %q, want a frame", name)
	}
	if _, name := r.next(); name != "" {
		t.Errorf("got %q, want the end", name)
	}
	wrapped := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page.ServeHTTP(unwrapping{noUnwrap{w}, w}, r)
	}))
	defer wrapped.Close()
	r = events(t, wrapped)
	r.next()
	r.body.Close()
}

// TestSignOfLife: a stream on which nothing changes says something more than twice in the time that the page waits for it.
func TestSignOfLife(t *testing.T) {
	script, err := assets.ReadFile("assets/page.js")
	must(t, err)
	var patience int
	_, after, _ := strings.Cut(string(script), "const patience = ")
	if _, err := fmt.Sscan(after, &patience); err != nil || time.Duration(patience)*time.Millisecond <= 2*quietAtMost {
		t.Errorf("the page waits for %d ms, %v, and the server is quiet for %v", patience, err, quietAtMost)
	}
	synctest.Test(t, func(t *testing.T) {
		page := new(Page)
		page.hub.viewers = 1 // and so nobody who begins to look
		ctx, cancel := context.WithTimeout(t.Context(), 3*quietAtMost+time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		page.ServeHTTP(deadlined{w}, local("GET", "/?events").WithContext(ctx))
		if n := strings.Count(w.Body.String(), "event: alive\ndata:\n\n"); n != 3 {
			t.Errorf("%d signs of life in %v:\n%s", n, 3*quietAtMost, w.Body)
		}
	})
}

// A deadlined recorder takes deadlines.
type deadlined struct{ *httptest.ResponseRecorder }

func (deadlined) SetWriteDeadline(time.Time) error { return nil }

type noUnwrap struct{ w http.ResponseWriter }

func (n noUnwrap) Header() http.Header         { return n.w.Header() }
func (n noUnwrap) Write(b []byte) (int, error) { return n.w.Write(b) }
func (n noUnwrap) WriteHeader(code int)        { n.w.WriteHeader(code) }

type unwrapping struct {
	noUnwrap
	w http.ResponseWriter
}

func (u unwrapping) Unwrap() http.ResponseWriter { return u.w }

// TestStreamsAreBounded: there are only so many at once.
func TestStreamsAreBounded(t *testing.T) {
	page := new(Page)
	page.hub.streams = mostStreams
	if w := get(page, "/?events"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", w.Code)
	}
	if page.hub.viewers != 0 {
		t.Error("who was refused counts")
	}
}

// TestHandleComesAndGoes: a name is kept for a handle that is not open yet; one that is closed says so; one that is removed is gone.
func TestHandleComesAndGoes(t *testing.T) {
	page := new(Page)
	page.Observe("app")
	if text := get(page, "/").Body.String(); !strings.Contains(text, "not open yet") {
		t.Errorf("a handle that is to come:\n%s", text)
	}
	db := openSQLite(t)
	page.Add("app", db)
	if text := get(page, "/").Body.String(); !strings.Contains(text, "Nobody waits.") {
		t.Errorf("a handle that has come:\n%s", text)
	}
	db.Close()
	page.Add("app", db) // it is asked at once
	if text := get(page, "/").Body.String(); !strings.Contains(text, "sql: database is closed") {
		t.Errorf("a handle that is closed:\n%s", text)
	}
	page.Add("app", nil)
	if text := get(page, "/").Body.String(); !strings.Contains(text, "the database handle is nil") {
		t.Errorf("no handle at all:\n%s", text)
	}
	page.Remove("app")
	page.Remove("none")
	if text := get(page, "/").Body.String(); !strings.Contains(text, "No database is on this page yet.") {
		t.Errorf("no handle:\n%s", text)
	}
}

// global is a server that is never freed.
var global http.Server

// TestPageForgetsServers: of servers that come and go nothing is kept, and each ends its own streams.
func TestPageForgetsServers(t *testing.T) {
	page := new(Page)
	page.Add("app", openSQLite(t))
	r := local("GET", "/")
	of := func(s *http.Server) <-chan struct{} {
		return page.shutdownOf(r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, s)))
	}
	for range 100 {
		s := &struct {
			before [3]int
			http.Server
		}{}
		shut := of(&s.Server)
		if shut != of(&s.Server) {
			t.Fatal("one server has two ends")
		}
		for range 2 {
			must(t, s.Shutdown(t.Context()))
		}
		select {
		case <-shut: // which Shutdown tells on a goroutine
		case <-time.After(time.Minute):
			t.Fatal("a server has shut down, and its streams go on")
		}
	}
	if first, again := of(&global), of(&global); first != again {
		t.Error("a server that is a variable has two ends")
	}
	count := func() int {
		page.mu.Lock()
		defer page.mu.Unlock()
		return len(page.servers)
	}
	for deadline := time.Now().Add(time.Minute); count() > 2 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		runtime.GC()
	}
	if n := count(); n > 2 { // the variable, and perhaps the last
		t.Errorf("%d servers are kept", n)
	}
}
