package wire

import (
	"errors"
	"unicode/utf8"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// errorRow says what a sentinel is on the wire.
type errorRow struct {
	code uint64
	err  error
}

// Errors that carry data have codes of their own.
const (
	codeText            = 0 // none of the sentinels: only a text
	codeMoved           = 1
	codeRefusedRevision = 2
	codeCorruption      = 3
	codeNotLeader       = 4

	codeSentinelMin = 10
)

// sentinels is the table of errors that mean something to who gets them. A code
// is never used for anything else. Where an error matches several rows the first
// counts.
func sentinels() []errorRow {
	return append(changeSentinels(), []errorRow{
		{10, peerpb.ErrNotLeader},
		{11, peerpb.ErrRangeNotFound},
		{12, peerpb.ErrRefused},
		{13, peerpb.ErrOverloaded},
		{14, peerpb.ErrUnknown},
		{15, peerpb.ErrMoved},
		{16, peerpb.ErrLockLost},
		{17, peerpb.ErrTxnAborted},
		{18, peerpb.ErrRevisionRefused},
		{19, peerpb.ErrDiskFull},
		{20, peerpb.ErrLeaseNotFound},
		{21, peerpb.ErrLeaseNotDue},
		{22, peerpb.ErrNeedsTxn},
		{23, peerpb.ErrMarkMissing},
		{24, peerpb.ErrTooLarge},
		{25, peerpb.ErrStopping},

		{40, mvcc.ErrEmptyKey},
		{41, mvcc.ErrKeyNotFound},
		{42, mvcc.ErrValueProvided},
		{43, mvcc.ErrLeaseProvided},
		{44, mvcc.ErrInvalidSortOption},
		{45, mvcc.ErrTooManyOps},
		{46, mvcc.ErrDuplicateKey},
		{47, mvcc.ErrLeaseUnknown},
		{48, mvcc.ErrCompacted},
		{49, mvcc.ErrFutureRevision},
		{50, mvcc.ErrStreamSort},
		{51, mvcc.ErrStreamFilter},
		{52, mvcc.ErrWait},
		{53, mvcc.ErrTooLarge},
		{54, mvcc.ErrUnknownRequest},
		{55, mvcc.ErrCorrupt},

		{70, lease.ErrExists},
		{71, lease.ErrTTLTooLarge},
		{72, lease.ErrExpired},
		{73, lease.ErrCheckpointed},
		{74, lease.ErrCorrupt},

		{90, placement.ErrStopped},
		{91, placement.ErrDeposed},
		{92, placement.ErrStaleAsk},
		{93, placement.ErrAskOrder},
		{94, placement.ErrTooManyUnacked},
		{95, placement.ErrBadAsk},
		{96, placement.ErrCompacted},
		{97, placement.ErrFutureRevision},
		{98, placement.ErrUnknownOp},
		{99, placement.ErrBadOp},
		{100, placement.ErrBadRow},
		{101, placement.ErrOneStore},
		{102, placement.ErrNameTaken},
		{103, placement.ErrURLTaken},
		{104, placement.ErrRemoved},
		{105, placement.ErrNoMember},
		{106, placement.ErrNeeded},
		{107, placement.ErrOtherFolder},

		{110, engine.ErrDiskFull},
		{111, engine.ErrClosed},
	}...)
}

// changeSentinels are those about changes of replicas and leaders, and about trust in one.
func changeSentinels() []errorRow {
	return []errorRow{
		{26, peerpb.ErrBadChange},
		{27, peerpb.ErrNotCaughtUp},
		{28, peerpb.ErrLeaderLeaves},
		{29, peerpb.ErrBadTransfer},
		{30, peerpb.ErrLastReplica},
		{31, peerpb.ErrNoMajority},
		{32, peerpb.ErrHasReplica},
		{33, peerpb.ErrNoReplica},
		{34, peerpb.ErrUnknownStore},
		{35, peerpb.ErrMoveUnderWay},
		{36, peerpb.ErrMoveStalled},
		{37, peerpb.ErrWaitsForUpgrade},

		{120, peerpb.ErrNotUndecided},
		{121, peerpb.ErrUnreadable},
		{122, peerpb.ErrGivenUp},
		{123, peerpb.ErrNoVoter},
		{124, peerpb.ErrTrustUnderWay},
	}
}

// textBytesMax bounds the text of an error on the wire.
const textBytesMax = 1024

// maybeError walks over an error that may be nil.
func (c *coder) maybeError(p *error) {
	has := *p != nil
	if c.bool(&has); has && c.err == nil {
		c.error(p)
	}
}

// error walks over an error: its code, then what its code says.
func (c *coder) error(p *error) {
	if c.enc {
		c.encodeError(*p)
		return
	}
	switch code := c.uvarint(); code {
	case codeMoved:
		e := &peerpb.MovedError{}
		num(c, &e.Range)
		pointers(c, &e.Newer, contract)
		*p = e
	case codeRefusedRevision:
		e := &peerpb.RefusedRevisionError{}
		num(c, &e.Closed)
		*p = e
	case codeNotLeader:
		e := &peerpb.NotLeaderError{}
		c.notLeader(e)
		*p = e
	case codeCorruption:
		e := &engine.CorruptionError{}
		c.string(&e.Path)
		var text string
		c.string(&text)
		e.Err = &RemoteError{Text: text}
		*p = e
	case codeText:
		e := &RemoteError{}
		c.string(&e.Text)
		*p = e
	default:
		c.decodeSentinel(code, p)
	}
}

func (c *coder) decodeSentinel(code uint64, p *error) {
	for _, row := range sentinels() {
		if row.code != code {
			continue
		}
		var text string
		if c.string(&text); text == "" {
			*p = row.err
		} else {
			*p = &RemoteError{Text: text, Kind: row.err}
		}
		return
	}
	if c.err == nil {
		c.unknown("error", code)
	}
}

func (c *coder) encodeError(err error) {
	var moved *peerpb.MovedError
	var refused *peerpb.RefusedRevisionError
	var notLeader *peerpb.NotLeaderError
	var corrupt *engine.CorruptionError
	switch {
	case errors.As(err, &moved):
		c.code(codeMoved)
		num(c, &moved.Range)
		pointers(c, &moved.Newer, contract)
		return
	case errors.As(err, &refused):
		c.code(codeRefusedRevision)
		num(c, &refused.Closed)
		return
	case errors.As(err, &notLeader):
		c.code(codeNotLeader)
		c.notLeader(notLeader)
		return
	case errors.As(err, &corrupt):
		c.code(codeCorruption)
		path, text := cut(corrupt.Path), ""
		if corrupt.Err != nil {
			text = cut(corrupt.Err.Error())
		}
		c.string(&path)
		c.string(&text)
		return
	}
	text := cut(err.Error())
	for _, row := range sentinels() {
		if !errors.Is(err, row.err) {
			continue
		}
		if err == row.err { // the text is known
			text = ""
		}
		c.code(row.code)
		c.string(&text)
		return
	}
	c.code(codeText)
	c.string(&text)
}

func (c *coder) notLeader(e *peerpb.NotLeaderError) {
	num(c, &e.Range)
	num(c, &e.Leader)
	num(c, &e.Term)
}

func (c *coder) code(code uint64) { num(c, &code) }

// cut shortens a text to what may be sent, between two characters.
func cut(text string) string {
	if len(text) <= textBytesMax {
		return text
	}
	n := textBytesMax
	for n > textBytesMax-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
