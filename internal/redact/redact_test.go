package redact

import (
	"errors"
	"fmt"
	"testing"
)

func TestSecretsAreStruckOut(t *testing.T) {
	cause := errors.New("cause")
	for _, tc := range []struct{ dsn, text, want string }{
		{"postgres://u:s3cret@h/db", `parse "postgres://u:s3cret@h/db": bad`, `parse "postgres://u:xxxxx@h/db": bad`},
		{"postgres://u:s%3Acret@h/db?application_name=a@b", `parse "postgres://u:s:cret@h/db": bad`, `parse "postgres://u:xxxxx@h/db": bad`},
		{`postgres://u:s3"cret@h/db`, `parse "postgres://u:s3\"cret@h/db": bad`, `parse "xxxxx": bad`},
		{"//u:s3cret@h/db", `missing "=" after "//u:s3cret@h/db"`, `missing "=" after "//u:xxxxx@h/db"`},
		{"u:s3cret host=x", `missing "=" after "u:s3cret"`, `missing "=" after "xxxxx"`},
		{"host=h password=s3cret user=u", "in host=h password=s3cret user=u", "in host=h password=xxxxx user=u"},
		{"host=h password = 's3 cret' user=u", "in password = 's3 cret' user", "in password = xxxxx user"},
		{"host=h sslpassword=s3cret", "in sslpassword=s3cret", "in sslpassword=xxxxx"},
		{"host=h password=s3cret", "cannot parse `host=h password=s3cret`: bad", "cannot parse `host=h password=xxxxx`: bad"},
		{"host=h password=s3cret", "cannot parse `host=h password=xxxxx`: bad; s3cret@", "cannot parse `host=h password=xxxxx`: bad; s3cret@"},
		{"u:s3cret@tcp(h)/db", "u:s3cret@tcp", "u:xxxxx@tcp"},
		{"u:p@ss?w@tcp(h)/db", "u:p@ss?w@tcp", "u:xxxxx@tcp"},
		{"file:app.db?_auth&_auth_user=u&_auth_pass=s3cret", "_auth_pass=s3cret", "_auth_pass=xxxxx"},
	} {
		err := withoutSecrets(fmt.Errorf("%s; %w", tc.text, cause), tc.dsn)
		if got := err.Error(); got != tc.want+"; cause" {
			t.Errorf("%s: got %q, want %q", tc.dsn, got, tc.want+"; cause")
		}
		if !errors.Is(err, cause) {
			t.Errorf("%s: the error lost its identity", tc.dsn)
		}
	}
}

// TestHonestErrorsStayThemselves: the same value, even if it has the password's
// letters in it.
func TestHonestErrorsStayThemselves(t *testing.T) {
	for _, tc := range []struct{ dsn, text string }{
		{"root:root@tcp(h)/db", "Access denied for user 'root'@'localhost' (using password: YES)"},
		{"postgres://a:a@h/db", "dial tcp 127.0.0.1:5432: connect: connection refused"},
		{"postgres://ann:x@h/db", `pq: password authentication failed for user "ann"`},
	} {
		err := errors.New(tc.text)
		if got := withoutSecrets(err, tc.dsn); got != err {
			t.Errorf("%s: %q became %q", tc.dsn, tc.text, got)
		}
	}
}

// TestDialErrors: an error that comes of reading the DSN may show any piece of the password, cut
// where the driver lost its way; one that the server has sent is left alone.
func TestDialErrors(t *testing.T) {
	for _, tc := range []struct {
		dsn, text  string
		fromServer bool
		want       string
	}{
		{"postgres://ann:tulip/rose@h/db", `invalid port "tulip"`, false, `invalid port "xxxxx"`},
		{"postgres://ann:tulip/rose@h/db", "no host rose", true, "no host xxxxx"}, // which no server would say
		{"ann:tulip@tcp(h)/db", "Access denied for user 'tulip'", true, "Access denied for user 'tulip'"},
		{"ann:tulip@tcp(h)/db", "invalid DSN: tulip", false, "invalid DSN: xxxxx"},
		{"host=h password='tulip rose", "unterminated tulip rose", true, "unterminated xxxxx"},
	} {
		if got := DialError(errors.New(tc.text), tc.dsn, tc.fromServer).Error(); got != tc.want {
			t.Errorf("%s: %q became %q, want %q", tc.dsn, tc.text, got, tc.want)
		}
	}
}
