package stop

import "errors"

// ErrStopping is what Go answers once the Stopper quiesces: whoever called
// should give up what it was about to do.
var ErrStopping = errors.New("stop: stopping")
