package ranges

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Marks go when there are too many, but not before those who asked for them had
// their turn.
func TestMarksGoInOrder(t *testing.T) {
	m := marks{max: 2}
	now := clock.Time(0).Add(time.Hour)
	key := []byte("k")
	add := func(id int64) { m.add(now, id, 1, []metapb.Span{keys.UserKeySpan(key)}) }
	for id := range int64(5) {
		add(id)
	}
	for id := range int64(5) {
		if !m.allows(id, key) {
			t.Errorf("the mark of %d went at once", id)
		}
	}
	now = now.Add(markAgeMin)
	m.drop(3)
	add(3) // the place that it had before does not count for it
	for id := range int64(5) {
		if got, want := m.allows(id, key), id >= 3; got != want {
			t.Errorf("a second later, mark of %d: %t, want %t", id, got, want)
		}
	}
	now = now.Add(markAgeMin)
	add(5)
	if m.allows(4, key) || !m.allows(3, key) || len(m.byID) != 2 || len(m.order) != 2 {
		t.Errorf("two seconds later there are %d marks in %d places", len(m.byID), len(m.order))
	}
}
