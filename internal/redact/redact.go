// Package redact strikes the password of a DSN out of the errors of drivers.
package redact

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// DialError returns err, of the Connect of a driver that was given dsn, unchanged unless its text shows
// the password: then it returns an error with that struck out and the same identity to
// errors.Is and errors.As. Some drivers read the DSN no earlier than in Connect, and some have read a
// wrong host, or a parameter, out of a password that is not escaped. fromServer tells that
// the server has sent the error, where its type does not.
func DialError(err error, dsn string, fromServer bool) error {
	if err == nil {
		return nil
	}
	if !fromServer && isParseError(err) || isMisread(dsn) {
		return ParseError(err, dsn)
	}
	return withoutSecrets(err, dsn)
}

// ParseError is DialError for an error of a driver that could not read the DSN: it may
// show any piece of the DSN, cut where the driver lost its way.
func ParseError(err error, dsn string) error {
	if err == nil {
		return nil
	}
	text := struckOut(err.Error(), dsn)
	for _, region := range secretRegions(dsn) {
		text = withoutCommon(text, region, dsn)
	}
	return redacted(err, text)
}

// withoutSecrets strikes out the password where a DSN has it. A server's own error, which
// shows none, stays what it is, though it may name a user who is called like the
// password.
func withoutSecrets(err error, dsn string) error {
	return redacted(err, struckOut(err.Error(), dsn))
}

// isParseError tells the error of a driver that could not read the DSN from those of the network
// and of the server, which have types for it.
func isParseError(err error) bool {
	var network net.Error
	var server interface{ SQLState() string }
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return true
	}
	if strings.Contains(fmt.Sprintf("%T", err), "ParseConfigError") { // of pgx, which is not among our dependencies
		return true
	}
	return !errors.As(err, &network) && !errors.As(err, &server)
}

// isMisread tells whether a driver may take a part of the password for something else.
func isMisread(dsn string) bool {
	if isCleanURL(dsn) {
		return false
	}
	if strings.Contains(dsn, "@") && slices.ContainsFunc(secretRegions(dsn), goesOn) {
		return true
	}
	return slices.ContainsFunc(keywordRegions(dsn), func(region string) bool {
		_, rest, ok := KeywordValue(region)
		return !ok || strings.TrimSpace(rest) != ""
	})
}

// isCleanURL tells of a URL with a password, whose end all drivers see at the same place.
func isCleanURL(dsn string) bool {
	u, err := url.Parse(dsn)
	if err != nil || u.User == nil || strings.Contains(u.Path+u.Fragment, "@") {
		return false
	}
	if strings.Contains(u.RawQuery, "@") && !strings.Contains(u.RawQuery, "=") {
		return false
	}
	_, authority, _ := strings.Cut(dsn, "//")
	authority, _, _ = strings.Cut(authority, "/")
	return strings.Count(authority, "@") == 1
}

// WithoutPassword returns the DSN without what is surely its password. Of one that is not escaped, a piece may stay.
func WithoutPassword(dsn string) string {
	return keywordSecret.ReplaceAllString(userSecret.ReplaceAllString(dsn, "$1@"), "$1")
}

func redacted(err error, text string) error {
	if text == err.Error() {
		return err
	}
	return &redactedError{text, err}
}

// struckOut returns a text without the password, in the forms in which drivers quote a DSN.
func struckOut(text, dsn string) string {
	for _, secret := range userSecrets(dsn) {
		text = strings.ReplaceAll(text, ":"+secret+"@", ":xxxxx@")
	}
	text = keywordSecret.ReplaceAllStringFunc(text, func(m string) string { return withoutKeywordSecret(m, dsn) })
	return quoted.ReplaceAllStringFunc(text, func(q string) string { return withoutQuotedSecret(q, dsn) })
}

// secretRegions returns the parts of a DSN in which its password must be, wherever that ends:
// in the form user:password@, all up to the last @, or all that follows; in a keyword form, all
// behind the keyword, up to the next word that is known to be another.
func secretRegions(dsn string) (regions []string) {
	rest := urlStart.ReplaceAllString(dsn, "")
	if user, after, found := strings.Cut(rest, ":"); found && !strings.Contains(user, "=") {
		at := strings.LastIndexByte(after, '@')
		if at >= 0 {
			after = after[:at]
		}
		if isFile := user == "file" || len(user) == 1; at >= 0 || !isFile && !strings.Contains(user, "(") { // as in C:\app.db
			regions = append(regions, after)
		}
	}
	regions = append(regions, keywordRegions(dsn)...)
	for _, region := range regions { // as a driver may have decoded it
		for _, decode := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
			if plain, err := decode(region); err == nil && plain != region {
				regions = append(regions, plain)
			}
		}
	}
	return regions
}

// goesOn tells whether a driver may have seen the end of the password before the last @.
func goesOn(region string) bool { return strings.ContainsAny(region, "/?#@") }

func keywordRegions(dsn string) (regions []string) {
	for _, at := range keywordStart.FindAllStringIndex(dsn, -1) {
		region := dsn[at[1]:]
		if end := knownKeyword.FindStringIndex(region); end != nil {
			region = region[:end[0]]
		}
		regions = append(regions, region)
	}
	return regions
}

// shortestPiece is the length from which on a piece of a password counts.
const shortestPiece = 4

// withoutCommon strikes out what a text has in common with a region of the DSN, but for what the
// DSN also shows elsewhere, such as the name of a host.
func withoutCommon(text, region, dsn string) string {
	elsewhere := strings.ToLower(strings.Replace(dsn, region, "\x00", 1))
	secret, lower := strings.ToLower(region), strings.ToLower(text)
	if len(lower) != len(text) { // by letters beyond ASCII: compare as it is written
		secret, lower = region, text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		n := commonLength(lower[i:], secret)
		if n < shortestPiece || strings.Contains(elsewhere, lower[i:i+n]) {
			b.WriteByte(text[i])
			i++
			continue
		}
		b.WriteString("xxxxx")
		i += n
	}
	return b.String()
}

// commonLength returns how many of the first bytes of text stand together in secret.
func commonLength(text, secret string) int {
	n := 0
	for n < len(text) && strings.Contains(secret, text[:n+1]) {
		n++
	}
	return n
}

var (
	// keywordSecret is the password of a keyword form, or of a URL's query.
	keywordSecret = regexp.MustCompile(`(?i)((?:password|passwd|pwd|_auth_pass)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&;'"]+)`)

	// userSecret is the password in the form user:password@, at the beginning or after the scheme of a URL.
	userSecret = regexp.MustCompile(`^((?:[a-zA-Z][a-zA-Z0-9+.-]*:)?(?://)?[^:/@?#]*:)[^/@]*@`)

	// keywordStart is what stands before the password of a keyword form, and knownKeyword what
	// may stand behind it.
	keywordStart = regexp.MustCompile(`(?i)(?:password|passwd|pwd|_auth_pass)\s*=\s*`)
	knownKeyword = regexp.MustCompile(`(?i)[\s&](?:host|hostaddr|port|dbname|user|sslmode|sslcert|sslkey|sslrootcert|application_name|connect_timeout|search_path|binary_parameters)\s*=`)

	// urlStart is what may stand before the user, in a URL or in a failed one.
	urlStart = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:?//?|^//?`)

	// quoted is what an error has put in quotes.
	quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// userSecrets returns what may be the password in the form user:password@ of a
// URL or of a MySQL DSN, as it is written and with its percent-encoding undone.
func userSecrets(dsn string) []string {
	var secrets []string
	beforeQuery, _, _ := strings.Cut(dsn, "?")
	for _, s := range []string{dsn, beforeQuery} { // a password of MySQL may have a question mark
		s = urlStart.ReplaceAllString(s, "")
		at := strings.LastIndexByte(s, '@')
		if at < 0 {
			continue
		}
		_, secret, found := strings.Cut(s[:at], ":")
		if !found || secret == "" {
			continue
		}
		secrets = append(secrets, secret)
		if plain, err := url.PathUnescape(secret); err == nil && plain != secret {
			secrets = append(secrets, plain)
		}
	}
	return secrets
}

// withoutKeywordSecret strikes out the value of a pair that the DSN has. What follows
// it in a sentence may look like a part of it.
func withoutKeywordSecret(pair, dsn string) string {
	m := keywordSecret.FindStringSubmatch(pair)
	secret := m[2]
	for len(secret) > 0 && !strings.Contains(dsn, m[1]+secret) {
		secret = secret[:len(secret)-1]
	}
	if secret == "" {
		return pair
	}
	return m[1] + "xxxxx" + m[2][len(secret):]
}

// withoutQuotedSecret strikes out a quoted text, if it is a piece of the DSN that
// may hold the password in a form we do not know.
func withoutQuotedSecret(q, dsn string) string {
	plain, err := strconv.Unquote(q)
	if err != nil {
		plain = strings.Trim(q, `"`)
	}
	if len(plain) < 4 || !strings.ContainsAny(plain, ":@") || !strings.Contains(dsn, plain) || strings.Contains(plain, "xxxxx") {
		return q
	}
	return `"xxxxx"`
}

// redactedError is an inner driver's error whose text had to be changed.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }
