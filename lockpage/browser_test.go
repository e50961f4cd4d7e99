package lockpage

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// soon is within what the page promises to show something. A machine that is busy with other tests may take longer.
const soon = time.Second

// TestBrowser opens the page in a browser, which runs its script under its policy.
func TestBrowser(t *testing.T) {
	testdb.NoLeaks(t)
	c := startChromium(t)
	t.Run("a slow holder and a deadlock are seen within a second", func(t *testing.T) { seenSoon(t, c.of(t)) })
	t.Run("what is hostile is shown and does not run", func(t *testing.T) { hostileInBrowser(t, c.of(t)) })
	t.Run("long names cover nothing", func(t *testing.T) { longNames(t, c.of(t)) })
	t.Run("pause, and what is open and focused stays", func(t *testing.T) { keptInBrowser(t, c.of(t)) })
	t.Run("without script", func(t *testing.T) { withoutScript(t, c.of(t)) })
	t.Run("the server comes back", func(t *testing.T) { serverComesBack(t, c.of(t)) })
	t.Run("the server hangs", func(t *testing.T) { serverHangs(t, c.of(t)) })
	t.Run("what is on the way keeps the stream back", func(t *testing.T) { streamKeptBack(t, c.of(t)) })
}

// of is the browser for another test.
func (c *chromium) of(t testing.TB) *chromium {
	c.t = t
	return c
}

// watched opens the page and waits until it is live.
func (c *chromium) watched(url string) *tab {
	tb := c.tab(url)
	tb.until("document.documentElement.classList.contains('is-live')")
	return tb
}

// hasty opens a page whose clock runs six times as fast.
func (c *chromium) hasty(url string) *tab {
	tb := c.tab("about:blank#")
	tb.call(tb.session, "Page.enable", nil, nil)
	tb.call(tb.session, "Page.addScriptToEvaluateOnNewDocument", params{"source": "{ const set = setTimeout; window.setTimeout = (f, ms) => set(f, ms / 6); }"}, nil)
	tb.call(tb.session, "Page.navigate", params{"url": url}, nil)
	tb.until("document.readyState === 'complete' && location.protocol === 'http:'")
	return tb
}

func seenSoon(t *testing.T, c *chromium) {
	page := new(Page)
	db := openSQLite(t, dblocker.Observe(page.Observe("app")))
	page.Add("app", db)
	server := httptest.NewServer(page)
	defer server.Close()
	tb := c.watched(server.URL + "/")
	defer tb.close()
	tb.until("document.body.innerText.includes('Nobody waits.')")
	s := newScene(t, db)
	fastest := func(what, script string, happens func(user string)) {
		t.Helper()
		var took time.Duration
		for i := range 3 { // of a busy machine the best of some
			user := fmt.Sprint(what, i)
			happens(user)
			begin := time.Now()
			tb.until(fmt.Sprintf(script, "user "+user))
			if took = time.Since(begin); took <= soon {
				return
			}
		}
		t.Errorf("a %s was seen after %v", what, took)
	}
	fastest("holder", "document.querySelector('svg.graph')?.textContent.includes(%q)", func(user string) {
		s.holds(user, "slow holder")
		s.wants(s.ctx, user, "who waits")
	})
	fastest("deadlock", "document.querySelector('.stories')?.innerText.includes(%q)", func(user string) { s.deadlock(user, "carol") })
	if text := tb.do("document.querySelector('.stories').innerText"); !strings.Contains(text, "refused") || !strings.Contains(text, "had") ||
		!strings.Contains(text, "user deadlock") || !strings.Contains(text, "user carol") {
		t.Errorf("the story of the deadlock:\n%s", text)
	}
}

func hostileInBrowser(t *testing.T, c *chromium) {
	page := new(Page)
	db := openSQLite(t, dblocker.Observe(page.Observe("app")))
	page.Add("app", db)
	server := httptest.NewServer(page)
	defer server.Close()
	tb := c.tab(server.URL + "/")
	defer tb.close()
	tb.do("window.alert = () => { window.run = true }; window.violations = []; addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective + ' ' + e.sample)); true")
	s := newScene(t, db)
	var last string
	for i, text := range hostile[:7] {
		last = fmt.Sprint(text, i)
		s.holds(last, text)
		s.wants(s.ctx, last, text)
	}
	tb.until("document.querySelectorAll('tr.waits').length === 7 && document.querySelectorAll('svg.across svg.box.waits').length >= 7")
	if got := tb.do("window.run"); got != "<nil>" {
		t.Error("a script of the hostile kind has run")
	}
	if got := tb.do("violations.join()"); got != "" {
		t.Errorf("the policy had to stop something: %s", got)
	}
	for i, text := range hostile[:7] {
		id := fmt.Sprint("user ", text, i)
		if got := tb.do(fmt.Sprintf("Array.from(document.querySelectorAll('tr.waits th'), (e) => e.textContent).includes(%q)", id)); got != "true" {
			t.Errorf("the table does not show %q", id)
		}
	}
	if got := tb.do("document.querySelectorAll('main img, main script, main iframe').length"); got != "0" {
		t.Errorf("%s elements came from outside", got)
	}
}

func longNames(t *testing.T, c *chromium) {
	page := new(Page)
	db := openSQLite(t)
	page.Add("app", db)
	server := httptest.NewServer(page)
	defer server.Close()
	s := newScene(t, db)
	names := []string{"<script>alert(1)</script>", strings.Repeat("x", 10_000), strings.Repeat("W", 300), strings.Repeat("日本", 200), strings.Repeat("é", 200), strings.Repeat("\u200b", 40), "customer-17"}
	for _, name := range names {
		s.holds(name, name)
		s.wants(s.ctx, name, name)
	}
	tb := c.tab(server.URL + "/?still")
	defer tb.close()
	for _, width := range []int{1200, 400} {
		tb.resize(width, 1000, "light")
		boxes := "Array.from(document.querySelectorAll('svg.box')).filter((b) => b.getClientRects().length)"
		if n := tb.do(boxes + ".length"); n != fmt.Sprint(2*len(names)) {
			t.Errorf("%d wide there are %s boxes", width, n)
		}
		side := "(b, line, side) => b.querySelector(line).getBoundingClientRect()[side]"
		wrong := tb.do("{ const side = " + side + "; " + boxes + ".filter((b) => side(b, '.who', 'right') > side(b, '.age', 'left') || ['.how', '.where', '.age'].some((c) => side(b, c, 'right') > side(b, '.card', 'right') - 8)).map((b) => b.textContent).join('\\n') }")
		if wrong != "" {
			t.Errorf("%d wide, something covers something else in:\n%s", width, wrong)
		}
		if !strings.Contains(tb.do("document.querySelector('svg.graph').textContent"), "user customer-17") {
			t.Error("a name of usual length is cut")
		}
	}
}

func keptInBrowser(t *testing.T, c *chromium) {
	page := new(Page)
	db := openSQLite(t)
	page.Add("app", db)
	server := httptest.NewServer(page)
	defer server.Close()
	tb := c.watched(server.URL + "/")
	defer tb.close()
	tb.do("document.querySelector('details').open = true; document.querySelector('summary').focus(); true")
	s := newScene(t, db)
	s.holds("ann", "first")
	s.wants(s.ctx, "ann", "second")
	tb.until("document.querySelector('svg.graph')?.textContent.includes('second')")
	if got := tb.do("document.querySelector('details').open && document.activeElement.nodeName === 'SUMMARY'"); got != "true" {
		t.Errorf("what was open or focused is so no more")
	}
	tb.until("document.getElementById('say').textContent.includes('some wait')")
	tb.do("document.getElementById('pause').click(); true")
	tb.until("document.getElementById('state').textContent === 'paused at'")
	idle := func() bool {
		page.hub.mu.Lock()
		defer page.hub.mu.Unlock()
		return page.hub.viewers == 0
	}
	s.until(idle)
	s.end()
	if got := tb.do("document.querySelector('svg.graph').textContent.includes('second')"); got != "true" {
		t.Error("the page changes while it is paused")
	}
	tb.do("document.getElementById('pause').click(); true")
	tb.until("document.body.innerText.includes('Nobody waits.')")
}

func withoutScript(t *testing.T, c *chromium) {
	page := new(Page)
	db := openSQLite(t)
	page.Add("app", db)
	server := httptest.NewServer(page)
	defer server.Close()
	tb := c.tab("about:blank#")
	defer tb.close()
	tb.call(tb.session, "Emulation.setScriptExecutionDisabled", params{"value": true}, nil)
	tb.call(tb.session, "Page.navigate", params{"url": server.URL + "/"}, nil)
	tb.until("document.querySelector('noscript meta[http-equiv=refresh]')")
	s := newScene(t, db)
	s.holds("ann", "first")
	s.wants(s.ctx, "ann", "second")
	tb.until("document.querySelector('svg.graph')?.textContent.includes('second')")
}

func serverComesBack(t *testing.T, c *chromium) {
	page := new(Page)
	page.Add("app", openSQLite(t))
	server := httptest.NewServer(page)
	tb := c.watched(server.URL + "/")
	defer tb.close()
	address := server.Listener.Addr().String()
	must(t, server.Config.Shutdown(t.Context()))
	tb.until("document.documentElement.classList.contains('is-off')")
	again := &http.Server{Addr: address, Handler: page}
	done := make(chan error, 1)
	go func() { done <- again.ListenAndServe() }()
	tb.until("document.documentElement.classList.contains('is-live')")
	again.Close()
	<-done
	server.Close()
}

// A hanging server's answers stand still, and so do its connections, until it goes on.
type hanging struct {
	http.Handler
	mu sync.Mutex // locked while it hangs
}

func (h *hanging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.Handler.ServeHTTP(hangingWriter{noUnwrap{w}, http.NewResponseController(w), h}, r)
}

type hangingWriter struct {
	noUnwrap
	control *http.ResponseController
	server  *hanging
}

func (w hangingWriter) Write(b []byte) (int, error) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	return w.noUnwrap.Write(b)
}

func (w hangingWriter) FlushError() error { return w.control.Flush() }

func (w hangingWriter) SetWriteDeadline(time.Time) error { return nil } // a process that hangs has none

func serverHangs(t *testing.T, c *chromium) {
	page := new(Page)
	page.Add("app", openSQLite(t))
	hang := &hanging{Handler: page}
	server := httptest.NewServer(hang)
	defer server.Close()
	tb := c.hasty(server.URL + "/")
	defer tb.close()
	tb.until("document.documentElement.classList.contains('is-live')")
	hang.mu.Lock()
	tb.until("document.documentElement.classList.contains('is-off') && document.getElementById('state').textContent === 'no answer since'")
	if got := tb.do("say.textContent"); got != "no answer from the program" {
		t.Errorf("a screen reader is told %q", got)
	}
	hang.mu.Unlock()
	tb.until("document.documentElement.classList.contains('is-live')")
	if got := tb.do("single"); got != "false" {
		t.Error("the page gives streams up for good")
	}
}

func streamKeptBack(t *testing.T, c *chromium) {
	page := new(Page)
	db := openSQLite(t)
	page.Add("app", db)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept := bufio.NewWriterSize(w, 1<<20)
		page.ServeHTTP(keptBack{unwrapping{noUnwrap{w}, w}, kept}, r)
		kept.Flush()
	}))
	defer server.Close()
	tb := c.hasty(server.URL + "/")
	defer tb.close()
	tb.until("document.documentElement.classList.contains('is-live')")
	s := newScene(t, db)
	s.holds("ann", "first")
	s.wants(s.ctx, "ann", "second")
	tb.until("document.querySelector('svg.graph')?.textContent.includes('second')")
}

// A keptBack writer keeps what it is given, as one that compresses does, and has an Unwrap, but no Flush.
type keptBack struct {
	unwrapping
	kept *bufio.Writer
}

func (k keptBack) Write(b []byte) (int, error) { return k.kept.Write(b) }
