package compat

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"

	"github.com/calmdocs/dblocker/lockpage"
)

// TestLivePage: behind each router the page is there with its style and script, at the path of the pattern.
func TestLivePage(t *testing.T) {
	page := new(lockpage.Page)
	for name, h := range map[string]http.Handler{
		"chi": pageOnChi(page), "chi, Mount": mountedOnChi(page), "gin": pageOnGin(page), "echo": pageOnEcho(page),
	} {
		text, _ := get(t, name, h, "/debug/dblocker")
		for _, file := range regexp.MustCompile(`"(\?file=[^"]*)"`).FindAllStringSubmatch(text, -1) {
			if _, kind := get(t, name, h, "/debug/dblocker"+file[1]); strings.HasPrefix(kind, "text/html") {
				t.Errorf("%s: %s is the page again", name, file[1])
			}
		}
		if !strings.Contains(text, "?file=") {
			t.Errorf("%s: the page is\n%s", name, text)
		}
	}
}

func get(t *testing.T, name string, h http.Handler, path string) (text, kind string) {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:4000", "localhost"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("%s: %s is answered with %d", name, path, w.Code)
	}
	return w.Body.String(), w.Header().Get("Content-Type")
}

func pageOnChi(page *lockpage.Page) http.Handler {
	r := chi.NewRouter()
	r.Handle("/debug/dblocker", page)
	return r
}

func mountedOnChi(page *lockpage.Page) http.Handler {
	r := chi.NewRouter()
	r.Mount("/debug/dblocker", page)
	return r
}

func pageOnGin(page *lockpage.Page) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.GET("/debug/dblocker", gin.WrapH(page))
	return g
}

func pageOnEcho(page *lockpage.Page) http.Handler {
	e := echo.New()
	e.GET("/debug/dblocker", echo.WrapHandler(page))
	return e
}
