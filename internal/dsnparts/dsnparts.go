// Package dsnparts reads what the DSNs of several drivers have in common.
package dsnparts

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// Host gives one name to the loopback addresses and spellings of case.
func Host(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return "localhost"
	}
	return host
}

// Name returns the name in a pair of a query, decoded.
func Name(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if plain, err := url.QueryUnescape(name); err == nil {
		return plain
	}
	return name
}

// Names returns those of all pairs.
func Names(pairs []string) []string {
	names := make([]string, len(pairs))
	for i, pair := range pairs {
		names[i] = Name(pair)
	}
	return names
}

// URLCause is the reason in a url.Error without the URL, which may hold a
// password.
func URLCause(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	// The reasons of net/url quote the part they stumbled over, which may be
	// the password's own: keep the words in front of it.
	text, _, _ := strings.Cut(err.Error(), `"`)
	return errors.New(strings.TrimSpace(text))
}

// QueryNames returns the names of the parameters in the query of a DSN.
func QueryNames(dsn string) []string {
	_, query, _ := strings.Cut(dsn, "?")
	query, _, _ = strings.Cut(query, "#")
	return Names(strings.Split(query, "&"))
}
