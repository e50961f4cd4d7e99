package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// Work is what users do: nine times they read their notes, once they write one. A client is one user for a visit, and then another.
type work struct {
	users, open, clients, requests int
}

const visit = 20 // requests

// Done is what has become of it.
type done struct {
	took          time.Duration
	written       int64 // notes that were acknowledged
	failed        int64
	firstFailure  error
	reads, writes []time.Duration
}

// on does the work by requests to a server.
func (w work) on(ctx context.Context, server *httptest.Server) (d done, err error) {
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = w.clients
	var left atomic.Int64
	left.Store(int64(w.requests))
	var mu sync.Mutex // guards d
	var all sync.WaitGroup
	began := time.Now()
	for range w.clients {
		all.Go(func() {
			user := 0
			for n := 0; left.Add(-1) >= 0 && ctx.Err() == nil; n++ {
				if n%visit == 0 {
					user = rand.IntN(w.users) + 1
				}
				writes := rand.IntN(10) == 0
				start := time.Now()
				err := request(client, server.URL, user, writes)
				mu.Lock()
				d.note(writes, time.Since(start), err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	d.took = time.Since(began)
	return d, ctx.Err()
}

// request reads the notes of a user, or writes one.
func request(client *http.Client, server string, user int, writes bool) error {
	u := fmt.Sprintf("%s/notes?user=%d", server, user)
	get := func() (*http.Response, error) { return client.Get(u) }
	if writes {
		get = func() (*http.Response, error) {
			return client.PostForm(u, url.Values{"text": {fmt.Sprint("a note of ", user)}})
		}
	}
	answer, err := get()
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(string(body))
	}
	if err != nil || writes {
		return err
	}
	for line := range strings.Lines(string(body)) {
		if strings.TrimSpace(line) != fmt.Sprint("a note of ", user) {
			return fmt.Errorf("user %d reads %q", user, line)
		}
	}
	return nil
}

func (d *done) note(writes bool, took time.Duration, err error) {
	switch {
	case err != nil:
		if d.failed++; d.firstFailure == nil {
			d.firstFailure = err
		}
	case writes:
		d.written++
		d.writes = append(d.writes, took)
	default:
		d.reads = append(d.reads, took)
	}
}

// report prints the table. Its error says that something went wrong.
func report(out io.Writer, w work, d done, found, opened int64) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(what string, value any) { fmt.Fprintf(t, "%s\t%v\n", what, value) }
	line("users, each with a file", w.users)
	line("files open at most", w.open)
	line("files opened", opened)
	line("requests", fmt.Sprintf("%d by %d clients, %.0f a second", w.requests, w.clients, float64(w.requests)/d.took.Seconds()))
	line("reads, median and 99%", middle(d.reads))
	line("writes, median and 99%", middle(d.writes))
	line("failed", d.failed)
	line("notes written, found", fmt.Sprintf("%d, %d", d.written, found))
	if err := t.Flush(); err != nil {
		return err
	}
	if d.failed > 0 || d.written != found {
		return fmt.Errorf("%d requests failed, and of %d notes %d are there; the first failure: %w", d.failed, d.written, found, d.firstFailure)
	}
	return nil
}

// middle is the median and the 99th percentile.
func middle(took []time.Duration) string {
	if len(took) == 0 {
		return "none"
	}
	slices.Sort(took)
	return fmt.Sprintf("%v, %v", took[len(took)/2].Round(10*time.Microsecond), took[len(took)*99/100].Round(10*time.Microsecond))
}
