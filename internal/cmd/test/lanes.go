//go:build unix

package main

import (
	"context"
	"os"
	"regexp"
	"slices"
	"sync"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A lane is modules that are tested one after the other, on servers of its own.
type lane []testModule

// alone matches the flags with which nothing goes on beside a module: its figures would be wrong, or its output not be read.
var alone = regexp.MustCompile(`^--?(test\.)?(v|bench|p|cpu|parallel|cpuprofile|trace)(=|$)`)

// lanesOf puts the root, whose tests wait for most of their time, beside the other modules.
func lanesOf(modules []testModule, flags []string) []lane {
	one := func(flag string) bool { return alone.MatchString(flag) || notCounted.MatchString(flag) }
	named := func(e *testdb.Engine) bool { return os.Getenv(e.Env) != "" } // there is one for all, and it has other work perhaps
	if len(modules) < 2 || slices.ContainsFunc(flags, one) || slices.ContainsFunc(engines, named) {
		return []lane{modules}
	}
	return []lane{modules[:1], modules[1:]}
}

// testLanes returns an exit status. A lane begins when the one before it has built its first tests: else both would compile
// what they share, which is most.
func testLanes(ctx context.Context, lanes []lane, flags []string, s *summary) (status int) {
	statuses := make([]int, len(lanes))
	var all sync.WaitGroup
	for i, l := range lanes {
		built := make(chan struct{})
		all.Go(func() { statuses[i] = l.test(ctx, flags, s, sync.OnceFunc(func() { close(built) })) })
		<-built
	}
	all.Wait()
	for _, status := range statuses {
		if status != 0 {
			return status
		}
	}
	return 0
}

// test calls built when the tests of the first module have been built, or the lane has ended.
func (l lane) test(ctx context.Context, flags []string, s *summary, built func()) (status int) {
	defer built()
	servers, err := launchServers(ctx)
	defer servers.stop()
	if err != nil {
		return report(ctx, err)
	}
	for _, m := range l {
		if ctx.Err() != nil {
			break
		}
		progress("module %d of %d: %s", s.next(), s.modules, m.name)
		if err := m.test(ctx, flags, servers.env(), s, built); err != nil {
			status = report(ctx, err)
		}
	}
	return status
}
