package seen

import (
	"context"
	"fmt"
	"log/slog"
)

// Once returns a logger that says the same once, whatever database it is of: what stands in the attribute "file" makes no difference. Errors it
// says each time.
func Once(l *slog.Logger) *slog.Logger { return slog.New(once{l.Handler(), new(Set)}) }

type once struct {
	slog.Handler
	said *Set
}

// Handle implements [slog.Handler].
func (o once) Handle(ctx context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "file" {
			text += fmt.Sprintf(" %q=%q", a.Key, a.Value)
		}
		return true
	})
	if r.Level < slog.LevelError && !o.said.IsNew(text) {
		return nil
	}
	return o.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (o once) WithAttrs(attrs []slog.Attr) slog.Handler {
	return once{o.Handler.WithAttrs(attrs), o.said}
}

// WithGroup implements [slog.Handler].
func (o once) WithGroup(name string) slog.Handler { return once{o.Handler.WithGroup(name), o.said} }
