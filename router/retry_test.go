package router

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want verdict
	}{
		{peerpb.ErrUnknown, verdictUnknown},
		{fmt.Errorf("apply: %w", peerpb.ErrUnknown), verdictUnknown},
		{&peerpb.MovedError{Range: 3}, verdictRefresh},
		{peerpb.ErrRangeNotFound, verdictRefresh},
		{peerpb.ErrNotLeader, verdictLater},
		{peerpb.ErrRefused, verdictLater},
		{peerpb.ErrOverloaded, verdictLater},
		{peerpb.ErrStopping, verdictLater},
		{ErrNoRange, verdictLater},
		{peerpb.ErrDiskFull, verdictFail},
		{peerpb.ErrTxnAborted, verdictFail},
		{mvcc.ErrCompacted, verdictFail},
		{errors.New("a disk on fire"), verdictFail},
	} {
		if got := judge(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
	// Both at once: what may have been done is not done again.
	if got := judge(errors.Join(peerpb.ErrRefused, peerpb.ErrUnknown)); got != verdictUnknown {
		t.Errorf("an error that is also unknown: %d", got)
	}
}

func TestBackoff(t *testing.T) {
	r, _ := New(Config{Store: 1, RetryDelayMin: time.Millisecond, RetryDelayMax: 10 * time.Millisecond})
	for tries, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		if got := r.backoff(tries); got != want*time.Millisecond {
			t.Errorf("after %d tries: %v, want %v", tries, got, want*time.Millisecond)
		}
	}
	if got := r.backoff(1 << 40); got != 10*time.Millisecond {
		t.Errorf("after very many tries: %v", got)
	}
}
