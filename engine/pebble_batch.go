package engine

import "github.com/cockroachdb/pebble/v2"

// pebbleBatch is a batch in Pebble's own format, kept for the next user when it
// is closed.
type pebbleBatch struct {
	e *Pebble
	b *pebble.Batch
}

// batchKeepBytes is the largest batch whose memory is kept.
const batchKeepBytes = 1 << 20

func (b *pebbleBatch) Set(key, value []byte) {
	op := b.b.SetDeferred(len(key), len(value))
	copy(op.Key, key)
	copy(op.Value, value)
}

// SetDeferred needs no Finish: that would only feed the index of an indexed
// batch, which ours is not.
func (b *pebbleBatch) SetDeferred(keyLen, valueLen int) (key, value []byte) {
	op := b.b.SetDeferred(keyLen, valueLen)
	return op.Key, op.Value
}

func (b *pebbleBatch) Delete(key []byte) { copy(b.b.DeleteDeferred(len(key)).Key, key) }

func (b *pebbleBatch) DeleteRange(start, end []byte) {
	op := b.b.DeleteRangeDeferred(len(start), len(end))
	copy(op.Key, start)
	copy(op.Value, end)
}

func (b *pebbleBatch) Empty() bool { return b.b.Empty() }

func (b *pebbleBatch) Len() int { return b.b.Len() }

func (b *pebbleBatch) Count() int { return int(b.b.Count()) }

func (b *pebbleBatch) Reset() { b.b.Reset() }

// Close gives the batch to the next user. Pebble's own pool drops the buffer of
// every batch that goes through it, so ours keeps batches that never go there.
func (b *pebbleBatch) Close() error {
	if b.b.Len() > batchKeepBytes {
		return b.b.Close()
	}
	b.b.Reset()
	b.e.batchs.Put(b)
	return nil
}
