package web_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/web"
)

// fromHeader finds the user as a login check would.
func fromHeader(r *http.Request) (any, bool) {
	id := r.Header.Get("X-User")
	return id, id != ""
}

// server serves a handler behind the middleware.
func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(web.Middleware(fromHeader)(h))
	t.Cleanup(s.Close)
	return s
}

// get returns the answer to a request of a user; "" is nobody.
func get(t *testing.T, url, user string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-User", user)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// open opens a handle on a fake driver.
func open(t *testing.T, opts ...dblocker.Option) *sql.DB {
	t.Helper()
	db, err := dblocker.OpenDB(fakedriver.NewServer(fakedriver.Full()).Connector(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestMiddlewareTagsRequests: each request has its user's lock; one without a user passes, and only what needs one is refused.
func TestMiddlewareTagsRequests(t *testing.T) {
	db := open(t, dblocker.Untagged(dblocker.ErrorUntagged))
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, unlock, err := dblocker.Lock(r.Context(), db)
		if err != nil {
			web.Error(w, err)
			return
		}
		defer unlock()
		holds, err := dblocker.Holds(db)
		if err != nil || len(holds) != 1 {
			t.Errorf("holds: %v, %v", holds, err)
			return
		}
		fmt.Fprint(w, "hello ", holds[0].User)
	})
	for _, user := range []string{"ann", "ben"} {
		if _, body := get(t, s.URL, user); body != "hello "+user {
			t.Errorf("user %s: got %q", user, body)
		}
	}
	if res, body := get(t, s.URL, ""); res.StatusCode != 500 || strings.Contains(body, "dblocker") {
		t.Errorf("nobody: got %d %q, want 500 without the text of the error", res.StatusCode, body)
	}
}

// TestMiddlewarePassesNobody: a request without a user reaches its handler.
func TestMiddlewarePassesNobody(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "log in") })
	if _, body := get(t, s.URL, ""); body != "log in" {
		t.Errorf("got %q", body)
	}
}

// TestMiddlewareChangesNothingElse: streams, connections that are hijacked and panics are as without it.
func TestMiddlewareChangesNothingElse(t *testing.T) {
	t.Run("response", func(t *testing.T) {
		var got http.ResponseWriter
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-User", "ann")
		web.Middleware(fromHeader)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { got = w })).ServeHTTP(rec, r)
		if got != http.ResponseWriter(rec) {
			t.Errorf("the handler got another response: %T", got)
		}
	})
	t.Run("stream", func(t *testing.T) {
		goOn := make(chan struct{})
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "one")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-goOn
			fmt.Fprintln(w, "two")
		})
		r, _ := http.NewRequest("GET", s.URL, nil)
		r.Header.Set("X-User", "ann")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		if line, err := lines.ReadString('\n'); line != "one\n" {
			t.Errorf("got %q, %v", line, err)
		}
		close(goOn)
		if line, err := lines.ReadString('\n'); line != "two\n" {
			t.Errorf("got %q, %v", line, err)
		}
	})
	t.Run("hijack", func(t *testing.T) {
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
		})
		if _, body := get(t, s.URL, "ann"); body != "mine" {
			t.Errorf("got %q", body)
		}
	})
	t.Run("panic", func(t *testing.T) {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("recovered %v, want the handler's own", p)
			}
		}()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-User", "ann")
		web.Middleware(fromHeader)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(httptest.NewRecorder(), r)
	})
}

// TestMiddlewareHandsBack: the pattern is there for a logger around it, and the server removes the files of a form.
func TestMiddlewareHandsBack(t *testing.T) {
	var file, pattern string
	mux := http.NewServeMux()
	mux.HandleFunc("POST /files/{name}", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
			return
		}
		f, err := r.MultipartForm.File["f"][0].Open()
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if on, ok := f.(*os.File); ok {
			file = on.Name()
		}
	})
	tagged := web.Middleware(fromHeader)(mux)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tagged.ServeHTTP(w, r)
		pattern = r.Pattern
	}))
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	part, err := m.CreateFormFile("f", "f")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(make([]byte, 11<<20))
	m.Close()
	r, _ := http.NewRequest("POST", s.URL+"/files/a", &form)
	r.Header.Set("Content-Type", m.FormDataContentType())
	r.Header.Set("X-User", "ann")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	s.Close() // waits for the end of the request
	if pattern != "POST /files/{name}" {
		t.Errorf("outside of the middleware the pattern is %q", pattern)
	}
	if file == "" {
		t.Fatal("the form has no file on disk")
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the form is left in %s: %v", file, err)
	}
}

// TestMiddlewareOfNothing: a function or a handler that is missing is told at start, not by each request.
func TestMiddlewareOfNothing(t *testing.T) {
	for _, f := range []func(){
		func() { web.Middleware(nil) },
		func() { web.Middleware(func(*http.Request) (any, bool) { return nil, false })(nil) },
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "is nil") {
					t.Errorf("got %v", p)
				}
			}()
			f()
		}()
	}
}

// TestStatusOfWaits: what calls that wait get in truth.
func TestStatusOfWaits(t *testing.T) {
	db := open(t, dblocker.LockTimeout(1))
	_, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), 1), db)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	_, err = db.ExecContext(dblocker.WithUser(context.Background(), 1), "UPDATE t SET v = 1")
	if got := web.Status(err); got != 503 {
		t.Errorf("an Exec: %v: got %d, want 503", err, got)
	}
	_, _, err = dblocker.TryLock(dblocker.WithUser(context.Background(), 1), db)
	if got := web.Status(err); got != 423 {
		t.Errorf("TryLock: %v: got %d, want 423", err, got)
	}
	closed := open(t)
	closed.Close()
	if _, err = closed.ExecContext(context.Background(), "UPDATE t SET v = 1"); web.Status(err) != 503 {
		t.Errorf("a closed handle: %v: got %d, want 503", err, web.Status(err))
	}
}
