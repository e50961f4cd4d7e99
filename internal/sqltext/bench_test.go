package sqltext

import (
	"strings"
	"testing"
)

var benchQueries = []struct{ name, query string }{
	{"point", "SELECT id, name, size FROM files WHERE user_id = ? AND id = ?"},
	{"cte", "WITH RECURSIVE t(id) AS (SELECT id FROM nodes WHERE parent = $1 UNION ALL SELECT n.id FROM nodes n JOIN t " +
		"ON n.parent = t.id) SELECT count(*), max(lower(id)) FROM t WHERE id <> 'x'"},
	{"4KB", "SELECT * FROM files WHERE name IN (" + strings.Repeat("'file name.txt', ", 235) + "'x')"},
}

func BenchmarkClassify(b *testing.B) {
	for _, q := range benchQueries {
		for _, d := range append(engines, Generic) {
			b.Run(q.name+"/"+d.String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Classify(d, q.query)
				}
			})
		}
	}
}

func BenchmarkCacheHit(b *testing.B) {
	for _, q := range benchQueries {
		b.Run(q.name, func(b *testing.B) {
			c := NewCache(PostgreSQL)
			c.Classify(q.query)
			b.ReportAllocs()
			for b.Loop() {
				c.Classify(q.query)
			}
		})
	}
}

func BenchmarkCacheHitParallel(b *testing.B) {
	c := NewCache(PostgreSQL)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Classify(benchQueries[0].query)
		}
	})
}

// Texts that never come back, as with literals written into them.
func BenchmarkCacheMiss(b *testing.B) {
	c := NewCache(PostgreSQL)
	queries := make([]string, 8*sets*ways)
	for i := range queries {
		queries[i] = benchQueries[0].query + strings.Repeat(" ", i%64) + strings.Repeat("\n", i/64)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Classify(queries[i%len(queries)])
	}
}
