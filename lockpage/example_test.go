package lockpage_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	_ "github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/lockpage"
)

// A program mounts the page where it likes. By default only its own machine may see it.
func Example() {
	page := new(lockpage.Page)
	db, err := dblocker.Openx("sqlite3", ":memory:", dblocker.Observe(page.Observe("app")))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	page.Add("app", db)

	mux := http.NewServeMux()
	mux.Handle("/debug/dblocker/", page)

	server := httptest.NewServer(mux) // in a program: http.ListenAndServe("127.0.0.1:8080", mux)
	defer server.Close()
	answer, err := http.Get(server.URL + "/debug/dblocker/?format=json")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	fmt.Println(answer.Status)

	r := httptest.NewRequest("GET", "/debug/dblocker/", nil)
	r.RemoteAddr = "192.0.2.1:4000" // from another machine
	refused := httptest.NewRecorder()
	mux.ServeHTTP(refused, r)
	fmt.Println(refused.Code, strings.Contains(refused.Body.String(), "only for requests from its own machine"))
	// Output:
	// 200 OK
	// 403 true
}

// An application puts its own login check before the page, and may hide who its users are.
func ExamplePage() {
	isAdmin := func(r *http.Request) bool { _, password, _ := r.BasicAuth(); return password == "of the administrator" }
	page := &lockpage.Page{Allow: isAdmin, Users: lockpage.HashUsers()}
	http.Handle("/debug/dblocker/", page)
}
