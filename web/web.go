// Package web ties dblocker to net/http: a middleware that tags each request's context with its user, and the
// status that an error of the database should give.
package web

import (
	"net/http"

	"github.com/calmdocs/dblocker"
)

// Middleware tags the context of each request, by [dblocker.WithUser], with the user that user names. id is what WithUser
// takes: a string, an integer, a [16]byte or a fmt.Stringer.
//
// ok is false for a request that has no user, such as one for the login page. It passes as it is, and takes no lock; whoever
// wants a user for it refuses it: user knows nothing of what a page is for. With the option untagged=error a statement of
// it is refused by [dblocker.ErrNoUser].
//
// The response, a connection that is hijacked or streamed to, and a panic of the handler pass through untouched. What the
// handler finds out about the request (its pattern, its multipart form) is in the outer request too when it returns.
func Middleware(user func(r *http.Request) (id any, ok bool)) func(http.Handler) http.Handler {
	if user == nil {
		panic("web: Middleware: the function that names the user of a request is nil")
	}
	return func(next http.Handler) http.Handler {
		if next == nil {
			panic("web: Middleware: the handler that it is put around is nil")
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, ok := user(r)
			if !ok {
				next.ServeHTTP(w, r)
				return
			}
			tagged := r.WithContext(dblocker.WithUser(r.Context(), id))
			defer handBack(r, tagged)
			next.ServeHTTP(w, tagged)
		})
	}
}

// handBack has the outer request know what others look for there: the server removes the temporary files of the
// multipart form, and loggers around the middleware want the pattern.
func handBack(r, tagged *http.Request) {
	if r.MultipartForm == nil && tagged.MultipartForm != nil {
		r.Form, r.PostForm, r.MultipartForm = tagged.Form, tagged.PostForm, tagged.MultipartForm
	}
	if r.Pattern == "" && tagged.Pattern != "" {
		r.Pattern = tagged.Pattern
	}
}
