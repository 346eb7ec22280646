package ranges

import (
	"fmt"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// judged is what becomes of answers: a letter is a hash, ! unreadable, - nothing. A
// capital is a learner's.
func judged(answers string) string {
	d := &metapb.Descriptor{RangeId: 2}
	said := make(map[metapb.ReplicaID]peerpb.CheckMessage)
	for i, a := range answers {
		p := &metapb.Replica{ReplicaId: uint64(i + 1)}
		m := peerpb.CheckMessage{State: peerpb.CheckDone, Sum: []byte(string(a | 0x20))}
		switch {
		case a == '!':
			m = peerpb.CheckMessage{State: peerpb.CheckUnreadable}
		case a == '-':
			m = peerpb.CheckMessage{State: peerpb.CheckSkipped}
		case a < 'a':
			p.Kind = metapb.ReplicaKind_LEARNER
		}
		d.Replicas = append(d.Replicas, p)
		said[metapb.ReplicaID(i+1)] = m
	}
	v := Judge(d, said)
	return fmt.Sprintf("equal %v corrupt %v missing %v undecided %v", v.Equal, v.Corrupt, v.Missing, v.Undecided)
}

// A majority of all voters says who is right.
func TestJudge(t *testing.T) {
	for _, c := range []struct{ answers, want string }{
		{"aaa", "equal [1 2 3] corrupt [] missing [] undecided []"},
		{"aab", "equal [1 2] corrupt [3] missing [] undecided []"},
		{"baa", "equal [2 3] corrupt [1] missing [] undecided []"},
		{"aa-", "equal [1 2] corrupt [] missing [3] undecided []"},
		{"ab-", "equal [] corrupt [] missing [3] undecided [1 2]"},
		{"abc", "equal [] corrupt [] missing [] undecided [1 2 3]"},
		{"ab", "equal [] corrupt [] missing [] undecided [1 2]"},
		{"a!", "equal [1] corrupt [2] missing [] undecided []"},
		{"!a-", "equal [2] corrupt [1] missing [3] undecided []"},
		{"!!!", "equal [] corrupt [] missing [] undecided [1 2 3]"},
		{"!ab", "equal [] corrupt [1] missing [] undecided [2 3]"},
		{"aaB", "equal [1 2] corrupt [3] missing [] undecided []"},
		{"aBB", "equal [1] corrupt [2 3] missing [] undecided []"}, // learners decide nothing
		{"aabbb", "equal [3 4 5] corrupt [1 2] missing [] undecided []"},
		{"aabb-", "equal [] corrupt [] missing [5] undecided [1 2 3 4]"},
		{"-", "equal [] corrupt [] missing [1] undecided []"},
	} {
		if got := judged(c.answers); got != c.want {
			t.Errorf("%s: %s, want %s", c.answers, got, c.want)
		}
	}
}
