package locks

import "testing"

type namedString string

// FuzzUser: whatever the bytes, equal IDs are one user, and different ones two.
func FuzzUser(f *testing.F) {
	f.Add("27", "27", int64(27))
	f.Add("", "\xff", int64(-1))
	f.Fuzz(func(t *testing.T, a, b string, n int64) {
		userA, errA := CanonicalUser(a)
		userB, errB := CanonicalUser(namedString(b))
		if (errA == nil) != (a != "") || (errB == nil) != (b != "") {
			t.Errorf("%q: %v; %q: %v", a, errA, b, errB)
		}
		if (userA == userB) != (a == b) && errA == nil && errB == nil {
			t.Errorf("%q is user %q, %q is user %q", a, userA, b, userB)
		}
		if user, err := CanonicalUser(n); err != nil || user == "" {
			t.Errorf("%d: user %q, %v", n, user, err)
		}
	})
}
