package placement

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func TestDetourScript(t *testing.T) {
	var d Detour
	now := clock.Time(time.Hour)
	datadriven.RunTest(t, "testdata/detour", func(t *testing.T, td *datadriven.TestData) string {
		if td.HasArg("ms") {
			now = now.Add(time.Duration(num(t, td, "ms")) * time.Millisecond)
		}
		did := false
		switch td.Cmd {
		case "new":
			d = NewDetour(DetourConfig{After: time.Second})
		case "tick":
			var others []int
			td.MaybeScanArgs(t, "others", &others)
			stores := make([]metapb.StoreID, len(others))
			for i, s := range others {
				stores[i] = metapb.StoreID(s)
			}
			did = d.Tick(now, td.HasArg("wanted"), metapb.StoreID(num(t, td, "sequencer")), stores)
		case "answered":
			d.Answered(now)
		case "straight":
			did = d.Straight(now)
		case "probe":
			did = d.Probe(now)
		default:
			td.Fatalf(t, "unknown command %s", td.Cmd)
		}
		return fmt.Sprintf("%v via=%d\n", did, d.Via())
	})
}
