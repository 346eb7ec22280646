package engine

import "bytes"

type memOpKind uint8

const (
	memSet memOpKind = iota
	memDelete
	memDeleteRange // key is the start, value the end
)

type memOp struct {
	kind       memOpKind
	key, value []byte
}

// memBatch collects operations. Each has its own bytes, which the tree keeps.
type memBatch struct {
	ops     []memOp
	size    int
	applied bool
}

// NewBatch implements Engine.
func (m *Mem) NewBatch() Batch { return &memBatch{} }

func (b *memBatch) SetDeferred(keyLen, valueLen int) (key, value []byte) {
	buf := make([]byte, keyLen+valueLen)
	key, value = buf[:keyLen:keyLen], buf[keyLen:]
	b.add(memOp{kind: memSet, key: key, value: value})
	return key, value
}

func (b *memBatch) Set(key, value []byte) {
	k, v := b.SetDeferred(len(key), len(value))
	copy(k, key)
	copy(v, value)
}

func (b *memBatch) Delete(key []byte) { b.add(memOp{kind: memDelete, key: bytes.Clone(key)}) }

func (b *memBatch) DeleteRange(start, end []byte) {
	b.add(memOp{kind: memDeleteRange, key: bytes.Clone(start), value: bytes.Clone(end)})
}

func (b *memBatch) add(op memOp) {
	b.ops = append(b.ops, op)
	b.size += len(op.key) + len(op.value)
}

func (b *memBatch) Empty() bool { return len(b.ops) == 0 }

func (b *memBatch) Len() int { return b.size }

func (b *memBatch) Count() int { return len(b.ops) }

// Reset drops the operations: after a commit the engine shares them.
func (b *memBatch) Reset() { *b = memBatch{} }

func (b *memBatch) Close() error { return nil }
