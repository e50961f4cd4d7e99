//go:build linux || darwin

package bytelock

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// BenchmarkHotKey is two processes of 16 workers each that all want the lock of one user, for a second or two: holds in total and hand-overs from one
// process to the other each second, the longest wait over the median, and the share of the process that had more.
func BenchmarkHotKey(b *testing.B) {
	for _, work := range []int{0, 20, 100} {
		for _, cancelled := range []bool{false, true} {
			b.Run(fmt.Sprintf("work %d us, cancelled %v", work, cancelled), func(b *testing.B) {
				const lasts = 2000
				database := newDatabase(b)
				file := filepath.Join(filepath.Dir(database), "hot")
				if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
					b.Fatal(err)
				}
				all := []*process{startProcess(b, database), startProcess(b, database)}
				for range b.N {
					for i, p := range all {
						p.begin("hot", file, i, lasts, work, cancelled)
					}
					for _, p := range all {
						ratio, err := strconv.ParseFloat(p.answer(), 64)
						if err != nil {
							b.Fatal(err)
						}
						b.ReportMetric(ratio, "longest/median")
					}
				}
				h, unmap, err := mapHot(file)
				if err != nil {
					b.Fatal(err)
				}
				defer unmap()
				seconds := float64(lasts*b.N) / 1000
				b.ReportMetric(float64(h.moves)/seconds, "moves/s")
				b.ReportMetric(float64(h.holds[0]+h.holds[1])/seconds, "holds/s")
				b.ReportMetric(float64(max(h.holds[0], h.holds[1]))/float64(max(1, min(h.holds[0], h.holds[1]))), "share")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// A hotKey is in memory that the processes share. Who has the lock may use it.
type hotKey struct {
	last, moves int64
	holds       [2]int64
}

func mapHot(file string) (*hotKey, func(), error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	memory, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return (*hotKey)(unsafe.Pointer(&memory[0])), func() { syscall.Munmap(memory) }, nil
}

// hold is called by one at a time.
func (h *hotKey) hold(who int, work time.Duration) {
	h.holds[who]++
	if h.last != int64(who) {
		h.last = int64(who)
		h.moves++
	}
	for end := time.Now().Add(work); work > 0 && time.Now().Before(end); {
	}
}

// hot returns the longest wait over the median.
func (c *commands) hot(file string, who int, lasts, work time.Duration, cancelled bool) (string, error) {
	h, unmap, err := mapHot(file)
	if err != nil {
		return "", err
	}
	defer unmap()
	const workers = 16
	var waits [workers][]time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(lasts)
	for i := range workers {
		wg.Go(func() { waits[i] = c.work(h, who, end, work, cancelled) })
	}
	wg.Wait()
	all := slices.Concat(waits[:]...)
	slices.Sort(all)
	return fmt.Sprint(float64(all[len(all)-1]) / float64(all[len(all)/2])), nil
}

// work has the lock again and again, and returns how long each wait was.
func (c *commands) work(h *hotKey, who int, end time.Time, work time.Duration, cancelled bool) (waits []time.Duration) {
	k := KeyOf("", "ann")
	for n := 0; ; n++ {
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if cancelled && n%10 < 3 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(n%4)*time.Millisecond)
		}
		began := time.Now()
		l, err := c.file.Acquire(ctx, k, Exclusive)
		cancel()
		if now := time.Now(); now.After(end) {
			if err == nil {
				l.Release()
			}
			return waits
		}
		if err != nil {
			continue
		}
		waits = append(waits, time.Since(began))
		h.hold(who, work)
		l.Release()
	}
}
