package main

import "testing"

func TestTableAndDiskAgree(t *testing.T) {
	if err := run(t.Context(), t.TempDir(), 50); err != nil {
		t.Error(err)
	}
}
