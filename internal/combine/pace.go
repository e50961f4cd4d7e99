package combine

import "time"

// pace says what is known of the time that a text takes.
type pace uint8

const (
	unseen pace = iota // it has not come often enough to be remembered
	unknown
	short
	tooLong
)

// never is noted of a text that is not to be combined, until it has run by itself.
const never = time.Hour

func (env *Env) paceOf(query string) pace {
	t := env.Texts.Took(query)
	switch {
	case t == nil:
		return unseen
	case t.Load() == 0:
		return unknown
	case t.Load() < int64(env.Long):
		return short
	}
	return tooLong
}

// noteTook notes how long a text has taken. One that takes long with some arguments is not short again
// after the first that were quick: the longer it has taken, the later.
func (env *Env) noteTook(query string, took time.Duration) {
	if t := env.Texts.Took(query); t != nil {
		t.Store(max(int64(took), t.Load()/4*3, 1))
	}
}
