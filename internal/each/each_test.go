package each

import (
	"runtime"
	"slices"
	"testing"
)

// TestDoGoesOnAfterWhatDoesNotReturn: a panic, and the end of the goroutine, keep none of the others
// from being called, and go on after that.
func TestDoGoesOnAfterWhatDoesNotReturn(t *testing.T) {
	for name, leave := range map[string]func(){
		"panic":  func() { panic("stop") },
		"goexit": runtime.Goexit,
	} {
		var called []int
		var reason any
		returned, done := false, make(chan struct{})
		go func() {
			defer close(done)
			defer func() { reason = recover() }()
			Do([]int{1, 2, 3}, func(n int) {
				called = append(called, n)
				if n == 1 {
					leave()
				}
			})
			returned = true
		}()
		<-done
		if want := []int{1, 2, 3}; !slices.Equal(called, want) {
			t.Errorf("%s: called for %v, want %v", name, called, want)
		}
		if returned || (name == "panic") != (reason == "stop") {
			t.Errorf("%s: it did not go on: returned is %v, the panic %v", name, returned, reason)
		}
	}
}
