package watchfeed

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Another store's hub is told at once, also where no client watches: its own clients wait. The
// time is the bubble's, which passes only when everybody waits.
func TestFollowersAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		news := make(chan int, 1<<10)
		w := newHubWorld(t, HubConfig{Feeds: func(out []FeedOutput) {
			for i := range out {
				if n := out[i].News; n != nil {
					for _, ch := range n.Changes {
						for range ch.Events {
							news <- len(ch.Events)
						}
					}
				}
			}
		}})
		w.hub.Feed(Step{Current: 1, Compacted: -1, Feeds: []FeedInput{{Store: 2, Ask: &peerpb.FeedAsk{
			Begin: []peerpb.FeedBegin{{Feed: 1, Start: []byte("a"), End: []byte("b"), After: 1}},
		}}}})
		const rounds = 20
		begun := time.Now()
		for i := range rounds {
			w.put(fmt.Sprint("a", i), "v")
			<-news
		}
		if took := time.Since(begun); took >= tickInterval {
			t.Errorf("%d events came in %v: each waited for a tick", rounds, took)
		}
	})
}
