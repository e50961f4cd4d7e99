// Package mysql has what is special to MySQL, MariaDB and their driver.
package mysql

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/calmdocs/dblocker/internal/dsnparts"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// database returns address and database of a DSN of go-sql-driver/mysql,
// [user[:password]@][net[(addr)]]/dbname[?params], with the driver's defaults.
// What it cannot read is its own identity.
func database(dsn string) string {
	slash := strings.LastIndexByte(dsn, '/')
	if slash < 0 {
		return dsn
	}
	name, _, _ := strings.Cut(dsn[slash+1:], "?")
	name, err := url.PathUnescape(name)
	if err != nil {
		return dsn
	}
	server := dsn[strings.LastIndexByte(dsn[:slash], '@')+1 : slash]
	network, addr, _ := strings.Cut(strings.TrimSuffix(server, ")"), "(")
	return serverOf(network, addr) + "/" + name
}

// serverOf gives one name to the ways to reach a server. The default socket
// and the loopback addresses at the default port are the same one.
func serverOf(network, addr string) string {
	switch network {
	case "unix":
		switch addr {
		case "", "/tmp/mysql.sock", "/var/run/mysqld/mysqld.sock", "/run/mysqld/mysqld.sock":
			return "localhost:3306"
		}
		return addr
	case "", "tcp", "tcp6", "tcp4":
		host, port, err := net.SplitHostPort(addr)
		if err != nil { // no port
			host, port = strings.Trim(addr, "[]"), "3306"
		}
		if host == "" {
			host = "localhost"
		}
		return dsnparts.Host(host) + ":" + port
	}
	return network + ":" + addr // a dialer that the program registered
}

// hidesBackslashes tells whether a DSN asks for a character set in which a letter may end with the byte of
// a backslash.
// https://dev.mysql.com/doc/refman/8.4/en/charset-asian-sets.html
func hidesBackslashes(dsn string) bool {
	_, params, _ := strings.Cut(dsn, "?")
	return slices.ContainsFunc([]string{"gbk", "gb18030", "sjis", "cp932", "big5"}, func(name string) bool { return sqltext.Contains(params, name) })
}

// FromURL rewrites mysql://user:password@host:port/database?params to the form
// of go-sql-driver/mysql, user:password@tcp(host:port)/database?params.
func FromURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("dblocker: the mysql URL cannot be read: %w; write mysql://user:password@host:3306/database and percent-encode special characters", dsnparts.URLCause(err))
	}
	if strings.ContainsAny(u.Host, "()") {
		return "", errors.New("dblocker: the host of the mysql URL has parentheses, as in the driver's own form; write mysql://user:password@host:3306/database, or mysql:user:password@unix(/path)/database")
	}
	user := u.User.Username()
	if strings.Contains(user, ":") {
		return "", errors.New("dblocker: the mysql URL has a colon in its user name, which go-sql-driver/mysql cannot express; use mysql.NewConnector with dblocker.OpenDB")
	}
	var b strings.Builder
	b.WriteString(user)
	if password, ok := u.User.Password(); ok {
		b.WriteString(":" + password)
	}
	if u.User != nil {
		b.WriteString("@")
	}
	if u.Host != "" {
		fmt.Fprintf(&b, "tcp(%s)", addrOf(u))
	}
	b.WriteString("/" + strings.Trim(u.EscapedPath(), "/"))
	if u.RawQuery != "" { // the driver takes the last slash for the one before the database
		b.WriteString("?" + strings.ReplaceAll(u.RawQuery, "/", "%2F"))
	}
	return b.String(), nil
}

func addrOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// paramNames returns the names of the parameters in a DSN.
func paramNames(dsn string) []string {
	return dsnparts.QueryNames(dsn[strings.LastIndexByte(dsn, '/')+1:])
}
