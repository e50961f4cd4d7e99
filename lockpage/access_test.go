package lockpage

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// TestOnlyLocalRequestsAreAnswered: by default nobody else sees the page, nor through a proxy or a name that leads here.
func TestOnlyLocalRequestsAreAnswered(t *testing.T) {
	type header map[string]string
	for _, c := range []struct {
		name, peer, host string
		header           header
		status           int
	}{
		{"from this machine", "127.0.0.1:4000", "127.0.0.1:8080", nil, 200},
		{"by name", "127.0.0.1:4000", "localhost:8080", nil, 200},
		{"by name without port", "127.0.0.1:4000", "LOCALHOST.", nil, 200},
		{"IPv6", "[::1]:4000", "[::1]:8080", nil, 200},
		{"IPv6 without port", "[::1]:4000", "[::1]", nil, 200},
		{"IPv4 in IPv6", "[::ffff:127.0.0.1]:4000", "127.0.0.2", nil, 200},
		{"a link from another site", "127.0.0.1:4000", "localhost", header{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200},

		{"from another machine", "192.0.2.1:4000", "localhost", nil, 403},
		{"from another machine by IPv6", "[2001:db8::1]:4000", "localhost", nil, 403},
		{"from a socket", "@", "localhost", nil, 403},
		{"from nowhere", "", "localhost", nil, 403},
		{"a name that a stranger lets point here", "127.0.0.1:4000", "evil.example:8080", nil, 403},
		{"a name that begins like ours", "127.0.0.1:4000", "localhost.evil.example", nil, 403},
		{"a name that ends like ours", "127.0.0.1:4000", "127.0.0.1.evil.example", nil, 403},
		{"an address of the network", "127.0.0.1:4000", "10.0.0.1:8080", nil, 403},
		{"the unspecified address", "127.0.0.1:4000", "0.0.0.0:8080", nil, 403},
		{"no host", "127.0.0.1:4000", "", nil, 403},
		{"a script of another site", "127.0.0.1:4000", "localhost", header{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403},
		{"a frame of another site", "127.0.0.1:4000", "localhost", header{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		{"proxy, standard", "127.0.0.1:4000", "localhost", header{"Forwarded": "for=192.0.2.1"}, 403},
		{"proxy, empty", "127.0.0.1:4000", "localhost", header{"X-Forwarded-For": ""}, 403},
		{"proxy, host", "127.0.0.1:4000", "localhost", header{"X-Forwarded-Host": "example.com"}, 403},
		{"proxy, user", "127.0.0.1:4000", "localhost", header{"x-forwarded-user": "me"}, 403},
		{"proxy, nginx", "127.0.0.1:4000", "localhost", header{"X-Real-IP": "192.0.2.1"}, 403},
		{"proxy, via", "127.0.0.1:4000", "localhost", header{"Via": "1.1 cache"}, 403},
		{"what a browser sends", "127.0.0.1:4000", "localhost", header{"Accept": "text/html", "Accept-Language": "de", "Cache-Control": "no-cache", "Dnt": "1", "Origin": "http://localhost",
			"Sec-Ch-Ua": "x", "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1", "Upgrade-Insecure-Requests": "1", "User-Agent": "x", "X-Requested-With": "x", "Authorization": "Basic x", "Cookie": "a=b"}, 200},
	} {
		for _, path := range []string{"/debug/dblocker/", "/debug/dblocker/?format=json", "/debug/dblocker/?file=page.js", "/debug/dblocker?events"} {
			r := httptest.NewRequest("HEAD", path, nil)
			r.RemoteAddr, r.Host = c.peer, c.host
			for name, value := range c.header {
				r.Header[name] = []string{value}
			}
			w := httptest.NewRecorder()
			new(Page).ServeHTTP(w, r)
			if w.Code != c.status || Local(r) != (c.status == 200) {
				t.Errorf("%s: %s is answered with %d, want %d: %s", c.name, path, w.Code, c.status, w.Body)
			}
		}
	}
}

// TestProxiesAreSeen: whatever header says that somebody has passed a request on, also with an empty value, refuses it.
func TestProxiesAreSeen(t *testing.T) {
	for _, name := range []string{
		"Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Ssl",
		"X-Forwarded-Client-Cert", "X-Forwarded-Anything", "X_Forwarded_For", "Via", "X-Real-Ip", "X-REAL-IP", "x-real-ip", "X-Client-Ip", "Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip",
		"Cf-Connecting-Ip", "CF-Connecting-IPv6", "CF-Ray", "CF-Visitor", "Cf-Access-Jwt-Assertion", "Cdn-Loop", "Fly-Client-Ip", "Fly-Forwarded-Port", "Fly-Region", "Fastly-Client-Ip", "X-Amzn-Trace-Id",
		"X-Cloud-Trace-Context", "X-Azure-ClientIp", "X-Appengine-User-Ip", "X-Envoy-External-Address", "X-Envoy-Original-Path", "X-Original-Url", "X-Rewrite-Url", "Tailscale-User-Login", "Ngrok-Skip-Browser-Warning",
	} {
		for _, value := range []string{"192.0.2.1", "127.0.0.1", ""} {
			r := local("GET", "/")
			r.Header[name] = []string{value}
			if Local(r) {
				t.Errorf("a request with %s: %q is taken for one that nobody has passed on", name, value)
			}
		}
	}
}

// TestAllowDecidesAlone: it opens the page to others, and closes it to this machine.
func TestAllowDecidesAlone(t *testing.T) {
	page := &Page{Allow: func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer x" }}
	for name, status := range map[string]int{"Bearer x": 200, "": 403} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "192.0.2.1:4000"
		r.Header.Set("Authorization", name)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("with %q the status is %d, want %d", name, w.Code, status)
		}
	}
}

// local returns a request from this machine.
func local(method, path string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:4000", "localhost"
	return r
}

// get returns the answer to a request from this machine.
func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, local("GET", path))
	return w
}

// TestPageIsOnlyRead: there is nothing to do on it.
func TestPageIsOnlyRead(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"} {
		w := httptest.NewRecorder()
		new(Page).ServeHTTP(w, local(method, "/"))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
}

// TestAnswersAreProtected: also what is refused has the headers, and nothing is loaded but what is the page's own.
func TestAnswersAreProtected(t *testing.T) {
	for _, path := range []string{"/", "/x/y/", "/?file=page.css", "/?file=page.js", "/?format=json", "/?format=x", "/?file=none"} {
		h := get(new(Page), path).Header()
		p := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(p, "default-src 'none'; ") || strings.Contains(p, "unsafe") || !strings.Contains(p, "frame-ancestors 'none'") ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, h)
		}
	}
	for path, kind := range map[string]string{"/": "text/html", "/?file=page.css": "text/css", "/x?file=page.js": "text/javascript", "/?format=json": "application/json"} {
		if w := get(new(Page), path); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
	}
	for path, status := range map[string]int{"/?file=none": 404, "/?file=": 404, "/?file=.": 404, "/?file=../page.go": 404, "/?file=/": 404, "/?format=xml": 400} {
		if w := get(new(Page), path); w.Code != status {
			t.Errorf("%s: %d, want %d", path, w.Code, status)
		}
	}
}

// TestPageIsWholeHoweverItIsMounted: whatever the pattern is, it leads to the page, and from there to all that the page needs.
func TestPageIsWholeHoweverItIsMounted(t *testing.T) {
	for pattern, at := range map[string]string{
		"/debug/dblocker/": "/debug/dblocker/", "/noslash": "/noslash", "GET /get": "/get", "/exactly/{$}": "/exactly/", "/{name}/locks": "/x/locks", "/rest/{rest...}": "/rest/of/it",
	} {
		mux := http.NewServeMux()
		mux.Handle(pattern, new(Page))
		for prefix, h := range map[string]http.Handler{"": mux, "/in": http.StripPrefix("/in", mux)} {
			w := get(h, prefix+at+"?still")
			if w.Code != 200 {
				t.Errorf("%s: %d", pattern, w.Code)
			}
			found := leads.FindAllStringSubmatch(w.Body.String(), -1)
			if len(found) != 2 {
				t.Fatalf("the page leads to %q", found)
			}
			for _, m := range found {
				to, err := local("GET", prefix+at+"?still").URL.Parse(m[1])
				must(t, err)
				if w := get(h, to.String()); w.Code != 200 || strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
					t.Errorf("%s: %s is answered with %d, %v", pattern, to, w.Code, w.Header())
				}
			}
		}
	}
	bare := http.StripPrefix("/debug/dblocker", new(Page))
	if w := get(bare, "/debug/dblocker"); w.Code != 200 {
		t.Errorf("with nothing left of its path: %d", w.Code)
	}
}

var leads = regexp.MustCompile(` (?:href|src)="([^"#]*\.(?:css|js))"`)

// TestPageHasNothingInline: no script, style or handler stands in the HTML, which the policy would not let run.
func TestPageHasNothingInline(t *testing.T) {
	text := string(renderPage(hostileView("x"), false))
	for _, wrong := range []string{"<style", " style=", " onclick", " onload", "javascript:", "http://", "https://", "<script>"} {
		if strings.Contains(text, wrong) {
			t.Errorf("the page has %q", wrong)
		}
	}
	if n := strings.Count(text, "<script"); n != 1 {
		t.Errorf("there are %d scripts", n)
	}
}
