package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/raftgroup"
)

// How long the promises of a store run is an option of its process: the election timeout.
// A start forgets what was promised, and so waits as long as the longest promise that may
// still run. That is in a row of the store, which is raised before a longer promise is
// given, and lowered only when those of before have run out.

// rowPromise is the store's row of the longest promise that may run: a format (1), then
// its nanoseconds. Without it: defaultPromise, as versions without the row gave them.
const (
	rowPromise     = "promise"
	promiseFormat  = 1
	defaultPromise = time.Second
)

// liveness is the part of this configuration that is about promises.
func (c *Config) liveness(earlier time.Duration) raftgroup.LivenessConfig {
	return raftgroup.LivenessConfig{
		ElectionTimeout: c.ElectionTimeout, HeartbeatInterval: c.HeartbeatInterval, EarlierPromise: earlier,
	}
}

// notePromise returns the longest promise that earlier starts of the store may have given,
// once it is durable that this one gives some of a length.
func notePromise(eng engine.Engine, length time.Duration) (earlier time.Duration, err error) {
	earlier = defaultPromise
	_, err = readRow(eng, keys.StoreRow(rowPromise), func(b []byte) error {
		if len(b) != 9 || b[0] != promiseFormat {
			return errors.New("the row is damaged or of a newer version")
		}
		earlier = time.Duration(binary.BigEndian.Uint64(b[1:]))
		return nil
	})
	if err == nil && length > earlier {
		err = writePromise(eng, length)
	}
	if err != nil {
		return 0, fmt.Errorf("how long the store's promises run: %w", err)
	}
	return earlier, nil
}

func writePromise(eng engine.Engine, length time.Duration) error {
	return writeRow(eng, rowPromise, binary.BigEndian.AppendUint64([]byte{promiseFormat}, uint64(length)))
}

// forgetPromises lowers the row when the promises of earlier starts have run out.
func (n *Node) forgetPromises(ctx context.Context) {
	length := n.cfg.ElectionTimeout
	if n.earlier <= length || sleep(ctx, n.earlier) != nil {
		return
	}
	if err := writePromise(n.eng, length); err != nil && !errors.Is(err, engine.ErrClosed) {
		n.cfg.Logger.Warn("the length of promises could not be written down: the next start waits for longer ones", "error", err)
	}
}
