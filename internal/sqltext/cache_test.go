package sqltext

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func (c *Cache) size() (entries int) {
	for i := range c.sets {
		for j := range c.sets[i].ways {
			if c.sets[i].ways[j].Load() != nil {
				entries++
			}
		}
	}
	return entries
}

func TestCacheAnswersLikeClassify(t *testing.T) {
	for _, d := range append(engines, Generic) {
		c := NewCache(d)
		for round := range 3 {
			for _, query := range corpus {
				if got, want := c.Classify(query), Classify(d, query); got != want {
					t.Fatalf("%v, round %d: %q is %+v from the cache, want %+v", d, round, query, got, want)
				}
			}
		}
	}
}

func TestCacheKeepsWhatComesBack(t *testing.T) {
	c := NewCache(SQLite)
	for i := range 10 * sets * ways {
		c.Classify(fmt.Sprintf("SELECT * FROM t WHERE a = %d", i))
	}
	if n := c.size(); n != 0 {
		t.Errorf("%d texts that were seen once are kept, want 0", n)
	}
	c.Classify("SELECT 1")
	c.Classify("SELECT 1")
	if n := c.size(); n != 1 {
		t.Errorf("%d entries after the second use of a text, want 1", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := NewCache(SQLite)
	for i := range 10 * sets * ways {
		query := fmt.Sprintf("SELECT %d", i)
		c.Classify(query)
		c.Classify(query)
	}
	if n := c.size(); n > sets*ways || n < sets*ways/2 {
		t.Errorf("%d entries, want about %d and no more", n, sets*ways)
	}
}

func TestCacheDoesNotKeepHugeTexts(t *testing.T) {
	c := NewCache(SQLite)
	huge := "SELECT '" + strings.Repeat("x", maxText) + "'"
	for range 3 {
		if got := c.Classify(huge); got.Kind != Read {
			t.Errorf("a huge SELECT is a %v, want read", got.Kind)
		}
	}
	if n := c.size(); n != 0 {
		t.Errorf("%d huge texts are kept, want 0", n)
	}
}

func TestCacheHitDoesNotAllocate(t *testing.T) {
	c := NewCache(SQLite)
	if n := testing.AllocsPerRun(100, func() { c.Classify("SELECT 1") }); n != 0 {
		t.Errorf("%v allocations for a hit, want none", n)
	}
}

func TestCacheDoesNotKeepWhatTheTextWasCutFrom(t *testing.T) {
	script := strings.Clone("SELECT 1; and a megabyte more")
	query := script[:len("SELECT 1")]
	c := NewCache(SQLite)
	c.Classify(query)
	c.Classify(query)
	for i := range c.sets {
		if e := c.sets[i].find(query); e != nil && unsafe.StringData(e.query) == unsafe.StringData(query) {
			t.Error("the entry shares memory with the script that the text was cut from")
		}
	}
}

func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	c := NewCache(MySQL)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 5_000 {
				verb, want := "SELECT", Read
				if i%2 == 0 {
					verb, want = "DELETE", Write
				}
				query := fmt.Sprintf("%s %d", verb, i%(2*sets*ways))
				if got := c.Classify(query); got.Kind != want {
					t.Errorf("%q is a %v, want %v", query, got.Kind, want)
				}
			}
		})
	}
	wg.Wait()
}
