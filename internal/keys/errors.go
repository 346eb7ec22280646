package keys

import "fmt"

// KeyError says that bytes are not a key of the kind that was expected. Keys
// come from disk and network, so this is an error and not a broken promise.
type KeyError struct {
	Want string // the kind that was expected
	Key  []byte
}

func (e *KeyError) Error() string { return fmt.Sprintf("keys: %x is not a %s key", e.Key, e.Want) }

func badKey(want string, key []byte) error {
	return &KeyError{Want: want, Key: append([]byte(nil), key...)}
}
