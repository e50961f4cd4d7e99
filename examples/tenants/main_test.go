package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestLoad: many users with few files open lose nothing.
func TestLoad(t *testing.T) {
	testdb.NoLeaks(t)
	var out strings.Builder
	if err := load(t.Context(), work{users: 40, open: 5, clients: 8, requests: 400}, &out); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"files open at most", "failed", "notes written, found"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in:\n%s", want, out.String())
		}
	}
}

// TestUsersHaveTheirOwn notes, whatever they are called, and a page lists their files.
func TestUsersHaveTheirOwn(t *testing.T) {
	s, err := newService(filepath.Join(t.TempDir(), "data", "{user}.db"), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.db.Close()
	handler := s.handler()
	call := func(method, path, user, text string) (int, string) {
		r := httptest.NewRequest(method, path+"?user="+url.QueryEscape(user), strings.NewReader(url.Values{"text": {text}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		return answer.Code, strings.TrimSpace(answer.Body.String())
	}
	users := []string{"ann", "Ann", "../x", "<b>", "a&b"}
	for _, user := range users {
		if code, n := call("POST", "/notes", user, "I am "+user); code != http.StatusOK || n != "1" {
			t.Errorf("%s: %d, %s", user, code, n)
		}
	}
	for _, user := range users {
		if _, text := call("GET", "/notes", user, ""); text != "I am "+user {
			t.Errorf("%s reads %q", user, text)
		}
	}
	if _, files := call("GET", "/", "", ""); !strings.Contains(files, "<td>../x<td>u_02e_02e_02fx.db<td>") || !strings.Contains(files, "&lt;b&gt;") {
		t.Errorf("the page is %s", files)
	}
	if code, _ := call("GET", "/notes", "", ""); code != http.StatusUnauthorized {
		t.Errorf("nobody gets %d", code)
	}
	if code, text := call("DELETE", "/notes", "ann", ""); code != http.StatusOK {
		t.Errorf("to delete: %d, %s", code, text)
	}
	if code, _ := call("DELETE", "/notes", "ann", ""); code != http.StatusNotFound {
		t.Errorf("to delete again: %d", code)
	}
	if _, text := call("GET", "/notes", "ann", ""); text != "" {
		t.Errorf("ann reads %q", text)
	}
}
