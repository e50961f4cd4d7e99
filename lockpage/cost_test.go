package lockpage

import (
	"bufio"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

var costRounds = flag.Int("lockpage.cost", 0, "measure in so many rounds what the page costs that is open in five tabs")

// TestCostOfFiveTabs measures the throughput of a full load without the page, with the page open in five tabs, and with five
// streams that say nothing, in turn. It prints the medians of the ratios to the first of the same round. Another process reads, as
// a browser would.
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
		shown, silent := httptest.NewServer(page), httptest.NewServer(http.HandlerFunc(saysNothing))
		calls, end := fullLoad(t, db)
		tabs := startTabs(t)
		second := func(url string) float64 {
			defer tabs.show(t, "")
			tabs.show(t, url)
			before, begin := calls.Load(), time.Now()
			<-time.After(2 * time.Second)
			return float64(calls.Load()-before) / time.Since(begin).Seconds()
		}
		urls := []string{"", shown.URL + "/?events", silent.URL}
		second("")
		var without, page5, silent5 []float64
		for range *costRounds {
			rates := make([]float64, len(urls))
			for _, i := range rand.Perm(len(urls)) {
				rates[i] = second(urls[i])
			}
			without = append(without, rates[0])
			page5, silent5 = append(page5, rates[1]/rates[0]), append(silent5, rates[2]/rates[0])
		}
		tabs.end(t)
		end()
		shown.Close()
		silent.Close()
		t.Logf("observed %v: %.0f calls a second; with the page in five tabs %s of that, with five silent streams %s",
			observed, median(without), spread(page5), spread(silent5))
	}
}

// fullLoad has 32 goroutines read and write as fast as they can until end, and counts their calls.
func fullLoad(t *testing.T, db *sql.DB) (calls *atomic.Int64, end func()) {
	s := newScene(t, db)
	calls = new(atomic.Int64)
	for i := range 32 {
		s.wg.Go(func() {
			for n := i; s.ctx.Err() == nil; n++ {
				ctx := dblocker.WithUser(s.ctx, fmt.Sprint("customer-", n%16))
				if n%10 == 0 {
					db.ExecContext(ctx, "UPDATE t SET v = v + 1 WHERE name = 'none'")
				} else {
					var v int
					db.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&v)
				}
				calls.Add(1)
			}
		})
	}
	return calls, s.end
}

// saysNothing is a stream that stays open and says nothing.
func saysNothing(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// median sorts.
func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// spread returns the median, and the quartiles.
func spread(all []float64) string {
	m := median(all)
	return fmt.Sprintf("%.3f (quartiles %.3f, %.3f)", m, all[len(all)/4], all[len(all)*3/4])
}

const tabsEnv = "DBLOCKER_TEST_TABS"

// tabs are another process, which has five tabs open at one address at a time.
type tabs struct {
	cmd  *exec.Cmd
	to   io.WriteCloser
	from *bufio.Reader
}

func startTabs(t *testing.T) *tabs {
	cmd := exec.Command(os.Args[0], "-test.run=^TestTabs$")
	cmd.Env, cmd.Stderr = append(os.Environ(), tabsEnv+"=1"), os.Stderr
	to, err := cmd.StdinPipe()
	must(t, err)
	from, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return &tabs{cmd, to, bufio.NewReader(from)}
}

// show has the tabs show the address, or nothing, and waits until they do.
func (p *tabs) show(t *testing.T, url string) {
	_, err := fmt.Fprintln(p.to, url)
	must(t, err)
	_, err = p.from.ReadString('\n')
	must(t, err)
}

func (p *tabs) end(t *testing.T) {
	must(t, p.to.Close())
	io.Copy(io.Discard, p.from)
	must(t, p.cmd.Wait())
}

// TestTabs is the other process.
func TestTabs(t *testing.T) {
	if os.Getenv(tabsEnv) == "" {
		t.Skip("this is another process of TestCostOfFiveTabs")
	}
	stop := func() {}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); fmt.Println() {
		stop()
		ctx, cancel := context.WithCancel(t.Context())
		stop = cancel
		for range 5 * min(1, len(lines.Text())) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSpace(lines.Text()), nil)
			must(t, err)
			answer, err := http.DefaultClient.Do(request)
			must(t, err)
			go io.Copy(io.Discard, answer.Body)
		}
	}
	stop()
}
