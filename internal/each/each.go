// Package each does one thing for all of several, whatever becomes of it for some.
package each

// Do calls f for all, in their order: also for those that come after one for which f
// panics or ends the goroutine.
func Do[T any](all []T, f func(T)) {
	for len(all) > 0 {
		first := all[0]
		all = all[1:]
		returned := false
		func() {
			defer func() {
				if !returned {
					Do(all, f)
				}
			}()
			f(first)
			returned = true
		}()
	}
}
