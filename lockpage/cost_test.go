package lockpage

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

var costRounds = flag.Int("lockpage.cost", 0, "measure in so many rounds what the page costs that is open in five tabs")

// TestCostOfFiveTabs measures the throughput of a full load with the page open in five tabs, and without, in turn, and prints both and
// the median of the ratios of neighbours. The tabs read in this process, and so cost it more than browsers would.
func TestCostOfFiveTabs(t *testing.T) {
	if *costRounds == 0 {
		t.Skip("without -lockpage.cost")
	}
	for _, observed := range []bool{false, true} {
		page := new(Page)
		var opts []dblocker.Option
		if observed {
			opts = append(opts, dblocker.Observe(page.Observe("app")))
		}
		db := openSQLite(t, opts...)
		page.Add("app", db)
		server := httptest.NewServer(page)
		var done atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		s := newScene(t, db)
		for i := range 32 {
			s.wg.Go(func() {
				for n := i; ctx.Err() == nil; n++ {
					ctx := dblocker.WithUser(ctx, fmt.Sprint("customer-", n%16))
					if n%10 == 0 {
						db.ExecContext(ctx, "UPDATE t SET v = v + 1 WHERE name = 'none'")
					} else {
						var v int
						db.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&v)
					}
					done.Add(1)
				}
			})
		}
		second := func(tabs int) float64 {
			var bodies []io.Closer
			for range tabs {
				answer, err := server.Client().Get(server.URL + "/events")
				must(t, err)
				bodies = append(bodies, answer.Body)
				go io.Copy(io.Discard, answer.Body)
			}
			before, begin := done.Load(), time.Now()
			<-time.After(2 * time.Second)
			rate := float64(done.Load()-before) / time.Since(begin).Seconds()
			for _, b := range bodies {
				b.Close()
			}
			return rate
		}
		second(0)
		var without, with, ratios []float64
		for round := range *costRounds {
			var a, b float64
			if round%2 == 0 {
				a, b = second(0), second(5)
			} else {
				b, a = second(5), second(0)
			}
			without, with, ratios = append(without, a), append(with, b), append(ratios, b/a)
		}
		stop()
		s.end()
		server.Close()
		t.Logf("observed %v: %.0f calls a second without the page, %.0f with five tabs; median of the ratios %.3f (quartiles %.3f, %.3f)",
			observed, median(without), median(with), median(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4])
	}
}

// median sorts.
func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
