package node

import (
	"testing"

	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// A chunk that is sent again is answered again. The second answer to the last one does not
// mean that its receiver lost the snapshot: then it would want the first.
func TestLastChunkIsAnsweredTwice(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	key := snapshotKey{5, 3}
	for _, c := range []struct {
		next uint64
		ends bool
	}{{4, false}, {5, false}, {0, true}} {
		// All of chunks 0 to 3 is there.
		r.core.sending[key] = &sending{to: 2, chunk: &ranges.SnapshotChunk{Range: 5, Replica: 3, ID: 7, Number: 4}}
		r.core.stepTaken(2, &peerpb.SnapshotAnswer{Range: 5, Replica: 3, ID: 7, Next: c.next})
		if ended := r.core.sending[key] == nil; ended != c.ends {
			t.Errorf("next is %d: it was given up: %v", c.next, ended)
		}
	}
}
