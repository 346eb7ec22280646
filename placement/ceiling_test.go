package placement

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
)

// skipped runs a sequencer whose log takes a while for each ceiling, with so many asks
// for one revision each in every ms of the last of the given times; it returns how many
// revisions the next one would skip if this one were lost at the end, the most that it
// would at any time in the last second, and how many asks had to wait in that second.
func skipped(t *testing.T, logTakes time.Duration, phases ...phase) (atEnd, most int64, waits int) {
	t.Helper()
	s, err := NewSequencer(SequencerConfig{Epoch: 2, Last: 1})
	if err != nil {
		t.Fatal(err)
	}
	var op *CeilingOp
	var doneAt clock.Time
	now, credit, durable := clock.Time(time.Hour), 0.0, int64(1)
	for i, p := range phases {
		for ms := range int(p.lasts / time.Millisecond) {
			now = now.Add(time.Millisecond)
			if op != nil && !now.Before(doneAt) {
				durable = int64(op.Ceiling)
				s.Persisted(op)
				op = nil
			}
			if ms%20 == 0 {
				s.Tick(now)
			}
			last := i == len(phases)-1 && p.lasts-time.Duration(ms)*time.Millisecond <= time.Second
			for credit += p.perSecond / 1000; credit >= 1; credit-- {
				if _, ok := s.Alloc(Ask{N: 1}); !ok && last {
					waits++
				}
			}
			if rd := s.Ready(); rd.Ceiling != nil {
				op, doneAt = rd.Ceiling, now.Add(logTakes)
			}
			atEnd = durable - int64(s.Last())
			if last {
				most = max(most, atEnd)
			}
		}
	}
	return atEnd, most, waits
}

type phase struct {
	perSecond float64
	lasts     time.Duration
}

// What is skipped when the sequencer's store is lost is what some hundred ms of the use
// need, and what an earlier, higher use needed does not count.
func TestRevisionsSkipped(t *testing.T) {
	for _, c := range []struct {
		name     string
		logTakes time.Duration
		phases   []phase
		most     int64
	}{
		{"nothing is written", 5 * time.Millisecond, []phase{{1, time.Second}, {0, 5 * time.Second}}, 64},
		{"10 a second", 5 * time.Millisecond, []phase{{10, 5 * time.Second}}, 64},
		{"1,000 a second", 5 * time.Millisecond, []phase{{1000, 5 * time.Second}}, 260},
		{"20,000 a second", 5 * time.Millisecond, []phase{{20000, 5 * time.Second}}, 5200},
		{"20,000 a second, a slow log", 200 * time.Millisecond, []phase{{20000, 10 * time.Second}}, 21000},
		{"quiet again", 5 * time.Millisecond, []phase{{20000, 5 * time.Second}, {0, 3 * time.Second}}, 256},
		{"slow again", 5 * time.Millisecond, []phase{{20000, 5 * time.Second}, {10, 20 * time.Second}}, 256},
	} {
		atEnd, most, waits := skipped(t, c.logTakes, c.phases...)
		t.Logf("%-30s skipped at the end %6d, at most %6d, asks that waited in the last second %d", c.name, atEnd, most, waits)
		if most > c.most {
			t.Errorf("%s: %d would be skipped", c.name, most)
		}
		if waits > 0 {
			t.Errorf("%s: %d asks had to wait for the ceiling", c.name, waits)
		}
	}
}

// Many that have to wait at once double what is ahead once for each trip of the log, and not
// once each.
func TestRevisionsSkippedAfterBurst(t *testing.T) {
	s, err := NewSequencer(SequencerConfig{Epoch: 2, Last: 1})
	if err != nil {
		t.Fatal(err)
	}
	now := clock.Time(time.Hour)
	s.Tick(now)
	s.Persisted(s.Ready().Ceiling)
	const asks, each = 1000, 4
	for range asks {
		s.Alloc(Ask{N: each})
	}
	trips, durable := 0, int64(0)
	for op := s.Ready().Ceiling; op != nil; op = s.Ready().Ceiling {
		durable = int64(op.Ceiling)
		s.Persisted(op)
		trips++
	}
	if last := int64(s.Last()); last != 1+asks*each {
		t.Fatalf("the last revision is %d", last)
	}
	skipped := durable - int64(s.Last())
	t.Logf("%d would be skipped after %d trips of the log", skipped, trips)
	if skipped > 4*64 || trips > 2 {
		t.Errorf("%d would be skipped after %d trips of the log", skipped, trips)
	}
}
