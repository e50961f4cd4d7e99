package engines

import "testing"

// TestDSNsOfNoKnownEngineAreTheirOwnIdentity: such handles share their locks with others
// of the very same DSN.
func TestDSNsOfNoKnownEngineAreTheirOwnIdentity(t *testing.T) {
	for _, dsn := range []string{"nonsense", "user='x"} {
		if id := Generic.Database(dsn); id != dsn {
			t.Errorf("%q: got identity %q, want the DSN", dsn, id)
		}
	}
}
