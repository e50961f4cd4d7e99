package main

import (
	"os"
	"strings"
	"testing"
)

func TestUsersAreOnTheirShards(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	if err := run(t.Context(), dir, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ann: 3 visits, in shard0.db", "bob: 1 visits, in shard0.db", "cid: 1 visits, in shard1.db"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in:\n%s", want, out.String())
		}
	}
	for _, shard := range []string{"shard0.db", "shard1.db"} {
		if _, err := os.Stat(dir + "/" + shard); err != nil {
			t.Error(err)
		}
	}
}
