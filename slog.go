package dblocker

import (
	"context"
	"log/slog"
	"slices"

	"github.com/calmdocs/dblocker/internal/plain"
	"github.com/calmdocs/dblocker/internal/userid"
)

// SlogHandler returns a handler that adds to each record, where its context says so, what dblocker knows of it: user; section, which is the [Tag] of the
// innermost section that has one; and request, the number of the request, the same in all its records. (It is the Request of a [HoldInfo] too, unless the
// request was tagged again by an inner layer.) They stand outside of all groups.
func SlogHandler(inner slog.Handler) slog.Handler {
	if inner == nil {
		panic("dblocker: SlogHandler: the inner handler is nil")
	}
	return &slogHandler{bare: inner, inner: inner}
}

// A slogHandler has what it was given so far twice: done to inner, and to be done again behind the attributes that it adds.
type slogHandler struct {
	bare, inner slog.Handler
	groups      bool
	done        []func(slog.Handler) slog.Handler
}

// Enabled implements [slog.Handler].
func (h *slogHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

// Handle implements [slog.Handler].
func (h *slogHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs := attrsOf(ctx)
	switch {
	case len(attrs) == 0:
		return h.inner.Handle(ctx, r)
	case !h.groups:
		r = r.Clone()
		r.AddAttrs(attrs...)
		return h.inner.Handle(ctx, r)
	}
	to := h.bare.WithAttrs(attrs)
	for _, do := range h.done {
		to = do(to)
	}
	return to.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	return h.with(false, func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h *slogHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(true, func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h *slogHandler) with(group bool, do func(slog.Handler) slog.Handler) *slogHandler {
	return &slogHandler{h.bare, do(h.inner), h.groups || group, append(slices.Clip(h.done), do)}
}

// attrsOf returns what is added to a record with the context.
func attrsOf(ctx context.Context) (attrs []slog.Attr) {
	if ctx == nil {
		return nil
	}
	if user, ok := User(ctx); ok {
		attrs = append(attrs, slog.String("user", userid.Short(user)))
	}
	m := marksFrom(ctx)
	for s := m.section; s != nil; s = s.outer {
		if s.tag != "" {
			attrs = append(attrs, slog.String("section", plain.Short(s.tag, longText)))
			break
		}
	}
	if id, _ := identityFrom(ctx); id.LockOwner() != nil {
		attrs = append(attrs, slog.Uint64("request", numberOf(id.LockOwner())))
	}
	return attrs
}
