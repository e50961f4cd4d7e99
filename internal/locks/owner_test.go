package locks

import "testing"

// TestRowsOfALineAreKnown to each owner in it, of those inside it up to maxInner, until they are unlisted.
func TestRowsOfALineAreKnown(t *testing.T) {
	outer := NewOwner(nil)
	inner, stranger := NewOwner(outer), NewOwner(outer)
	count := func(o *Owner) int { return len(o.RowsThat(func(*RowsHold) bool { return true })) }
	var holds [maxInner + 2]RowsHold
	for i := range holds {
		holds[i].Owner = inner
		inner.Add(&holds[i])
	}
	if count(inner) != len(holds) || count(outer) != maxInner || count(stranger) != 0 || !outer.HasRows() {
		t.Errorf("the owner of %d rows knows %d, the outer one %d of at most %d, another inside that %d",
			len(holds), count(inner), count(outer), maxInner, count(stranger))
	}
	for i := range holds {
		holds[i].Unlist()
		holds[i].Unlist()
	}
	if inner.HasRows() || outer.HasRows() {
		t.Errorf("%d and %d rows are known when all are gone", count(inner), count(outer))
	}
	if (*Owner)(nil).HasRows() {
		t.Error("nobody has rows")
	}
}
