package ranges

import (
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/cmdpb"
)

type leaseID = lease.ID

// recordView is what a leader knows of records beyond its table: those that are
// proposed and not applied. Like the overlay, it loses them from one end when
// they are applied and from the other when what was proposed is lost.
type recordView struct {
	top  map[leaseID]*proposedRecord // the newest of each lease
	list []*proposedRecord           // in order of batches
}

type proposedRecord struct {
	id     leaseID
	record lease.Record
	gone   bool // the record is deleted
	batch  uint64
	older  *proposedRecord
	done   bool // applied
}

func (v *recordView) add(p *proposedRecord) {
	if v.top == nil {
		v.top = make(map[leaseID]*proposedRecord)
	}
	p.older = v.top[p.id]
	v.top[p.id] = p
	v.list = append(v.list, p)
}

// applied forgets what was proposed up to and including a batch.
func (v *recordView) applied(batch uint64) {
	n := 0
	for n < len(v.list) && v.list[n].batch <= batch {
		p := v.list[n]
		p.done, p.older = true, nil
		if v.top[p.id] == p {
			delete(v.top, p.id)
		}
		v.list[n] = nil
		n++
	}
	v.list = v.list[n:]
	if len(v.list) == 0 {
		v.list = nil
	}
}

// drop forgets what was proposed from a batch on: it is lost.
func (v *recordView) drop(batch uint64) {
	for n := len(v.list) - 1; n >= 0 && v.list[n].batch >= batch; n-- {
		p := v.list[n]
		if p.older != nil && !p.older.done {
			v.top[p.id] = p.older
		} else {
			delete(v.top, p.id)
		}
		v.list = v.list[:n]
	}
}

// record returns the record of a lease after everything that was evaluated, and
// the batch that makes it so, 0 if it is applied.
func (r *Replica) record(id leaseID) (rec lease.Record, ok bool, batch uint64) {
	if p := r.view.top[id]; p != nil {
		return p.record, !p.gone, p.batch
	}
	rec, ok = r.table.Get(id)
	return rec, ok, 0
}

// writeRecord logs a record.
func (r *Replica) writeRecord(b *batch, rec lease.Record) {
	b.row(rec.Row())
	r.view.add(&proposedRecord{id: rec.ID, record: rec, batch: b.number})
}

// deleteRecord logs that a record goes.
func (r *Replica) deleteRecord(b *batch, id leaseID) {
	r.ending(int64(id))
	b.row(lease.DeleteRow(id))
	r.view.add(&proposedRecord{id: id, gone: true, batch: b.number})
}

// row adds a row of a lease to the batch's entry.
func (b *batch) row(row *cmdpb.Row) {
	if b.rows == nil {
		b.rows = &cmdpb.RowsCommand{}
		b.command(&cmdpb.Command{Kind: &cmdpb.Command_Rows{Rows: b.rows}})
	}
	b.rows.Rows = append(b.rows.Rows, row)
}

// dropEffects forgets what a batch and all later ones were to do.
func (r *Replica) dropEffects(batch uint64) {
	r.overlay.Drop(batch)
	r.view.drop(batch)
	r.marks.clear() // some may be of registrations in the batch
}
