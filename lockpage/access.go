package lockpage

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Local reports whether a request comes from this machine and was made for it: the peer's address and the Host are of the
// loopback, no proxy has passed it on, and no page of another site has made it. Pages that answer nobody else cannot be
// reached through a reverse proxy that forgot about them, nor by a name that a stranger lets point to 127.0.0.1.
func Local(r *http.Request) bool { return refusal(r) == "" }

// refusal says why a request is not local, in words for whoever made it; "" if it is.
func refusal(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case err != nil || !peer.Addr().Unmap().IsLoopback():
		return "it comes from another machine"
	case isProxied(r.Header):
		return "it came through a proxy"
	case !isLocalHost(r.Host):
		return "its Host is not localhost or an address of the loopback"
	case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
		return "a page of another site has made it"
	}
	return ""
}

// isProxied reports whether a header is there that proxies add.
func isProxied(h http.Header) bool {
	for name := range h {
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-") // as some servers take one for the other
		if slices.Contains(ofProxies, name) || slices.ContainsFunc(ofProxyFamilies, func(family string) bool { return strings.HasPrefix(name, family) }) {
			return true
		}
	}
	return false
}

// Headers that proxies, load balancers and tunnels add, by their names and by how their names begin. Browsers send none of them.
var (
	ofProxies = []string{"forwarded", "via", "x-forwarded", "forwarded-for", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-originating-ip", "x-remote-ip",
		"x-remote-addr", "x-original-host", "x-original-url", "x-original-for", "x-rewrite-url", "x-host", "x-proxyuser-ip", "client-ip", "true-client-ip", "wl-proxy-client-ip", "proxy-client-ip",
		"cdn-loop", "fastly-client-ip", "x-appengine-user-ip", "x-arr-log-id", "x-amzn-trace-id", "x-cloud-trace-context", "x-azure-clientip", "x-azure-socketip", "x-request-start"}
	ofProxyFamilies = []string{"x-forwarded-", "cf-", "fly-", "x-envoy-", "x-vercel-", "x-nf-", "x-azure-fdid", "cloudfront-", "ngrok-", "tailscale-", "x-traefik-"}
)

// isLocalHost reports whether the Host of a request, with or without a port, is of this machine.
func isLocalHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// admit answers a request that is not for this page, and reports whether there is more to say.
func (p *Page) admit(w http.ResponseWriter, r *http.Request) bool {
	if why := refusal(r); p.Allow == nil && why != "" {
		http.Error(w, "dblocker: this page is only for requests from its own machine, and this one is refused: "+why+
			". A program opens the page to others by Page.Allow.", http.StatusForbidden)
		return false
	}
	if p.Allow != nil && !p.Allow(r) {
		http.Error(w, "dblocker: the program does not allow this request.", http.StatusForbidden)
		return false
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "dblocker: this page can only be read.", http.StatusMethodNotAllowed)
		return false
	}
	return true
}

// policy lets the page load its own style and script, connect to itself, and nothing else: what is written into it cannot run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types lockpage"

// protect sets the headers of all answers.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
