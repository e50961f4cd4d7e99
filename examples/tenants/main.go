// Tenants is a web service that keeps the notes of each user in a SQLite file of the user's own. Files are made and migrated when they are
// opened. A thousand users work on it, of whom at most a hundred have their file open.
//
//	go run ./examples/tenants                 # the load of a thousand users, and its table
//	go run ./examples/tenants -serve          # the service alone, on http://127.0.0.1:8080/
//	curl -d text=hello 'http://127.0.0.1:8080/notes?user=ann'
//	curl 'http://127.0.0.1:8080/notes?user=ann'
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	serve := flag.Bool("serve", false, "serve on 127.0.0.1:8080, in the directory data, instead of working on it")
	w := work{users: 1000, open: 100, clients: 64, requests: 20_000}
	flag.IntVar(&w.users, "users", w.users, "users")
	flag.IntVar(&w.open, "open", w.open, "files that may be open")
	flag.IntVar(&w.requests, "requests", w.requests, "requests of all users")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := func() error { return load(ctx, w, os.Stdout) }
	if *serve {
		run = func() error { return serveUntil(ctx, "data", w.open) }
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// serveUntil serves until ctx ends.
func serveUntil(ctx context.Context, dir string, open int) error {
	s, err := newService(filepath.Join(dir, "{user}.db"), open)
	if err != nil {
		return err
	}
	defer s.db.Close()
	srv := &http.Server{Addr: "127.0.0.1:8080", Handler: s.handler()}
	context.AfterFunc(ctx, func() { srv.Close() })
	fmt.Println("http://127.0.0.1:8080/")
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// load has the users work on a service of its own, and prints what has become of it.
func load(ctx context.Context, w work, out io.Writer) error {
	dir, err := os.MkdirTemp("", "tenants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := newService(filepath.Join(dir, "{user}.db"), w.open)
	if err != nil {
		return err
	}
	defer s.db.Close()
	server := httptest.NewServer(s.handler())
	defer server.Close()
	done, err := w.on(ctx, server)
	if err != nil {
		return err
	}
	found, err := s.countAll(ctx)
	if err != nil {
		return err
	}
	return report(out, w, done, found, s.opened.Load())
}
