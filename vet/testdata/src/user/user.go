package user

import (
	"context"
	"database/sql"
	"net/http"
	"time"

	"github.com/calmdocs/dblocker"
)

func once(w http.ResponseWriter, r *http.Request) {
	ctx := dblocker.WithUser(r.Context(), "ann")
	_ = ctx
}

func twice(w http.ResponseWriter, r *http.Request) {
	ctx := dblocker.WithUser(r.Context(), "ann")
	ben := dblocker.WithUser(ctx, "ben")   // want `the context is tagged for the user "ann" already`
	again := dblocker.WithUser(ctx, "ann") // the same
	_, _ = ben, again
}

func further(ctx context.Context, from, to int, db *sql.DB) {
	tagged := dblocker.WithUser(ctx, from)
	short, cancel := context.WithTimeout(tagged, time.Second)
	defer cancel()
	sctx, unlock, err := dblocker.Lock(short, db)
	defer unlock()
	other := dblocker.WithUser(sctx, to) // want `the context is tagged for the user from already`
	_, _ = other, err
}

func jobs(ctx context.Context, users []string) {
	for _, u := range users {
		ctx := dblocker.WithUser(ctx, u)
		_ = ctx
	}
}

func nested(ctx context.Context, users []string) {
	for _, u := range users {
		ctx = dblocker.WithUser(ctx, u) // want `each turn of the loop tags the context of the one before`
	}
}

func setBack(outer context.Context, users []string) {
	ctx := outer
	for _, u := range users {
		ctx = outer
		ctx = dblocker.WithUser(ctx, u)
	}
	_ = ctx
}

func anew(ctx context.Context, users []string) {
	var tagged context.Context
	for _, u := range users {
		tagged = dblocker.WithUser(ctx, u)
	}
	_ = tagged
}
