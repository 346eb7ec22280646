package raftgroup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// TestScripts runs scenes of a range with several replicas; the commands are
// those of scene.run.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/group", func(t *testing.T, path string) {
		s := &scene{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(t, d)
			if err != nil {
				out += "error: " + err.Error() + "\n"
			}
			if out == "" {
				return "ok\n"
			}
			return out
		})
	})
}

type scene struct {
	c        *cluster
	showConf bool
}

func (s *scene) run(t *testing.T, d *datadriven.TestData) (out string, err error) {
	id := 1
	d.MaybeScanArgs(t, "r", &id)
	if d.Cmd == "new" {
		n := 3
		d.MaybeScanArgs(t, "n", &n)
		s.c, err = newCluster(n)
		return "", err
	}
	r := s.c.at(metapb.ReplicaID(id))
	switch d.Cmd {
	case "campaign":
		return "", r.g.Campaign()
	case "propose":
		index, term, err := r.g.Propose([]byte(d.CmdArgs[len(d.CmdArgs)-1].Key))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("at %d/%d\n", term, index), nil
	case "add":
		return fmt.Sprintf("replica %d has nothing\n", s.c.add().id), nil
	case "conf": // voters=(ids) outgoing=(ids) learners=(ids)
		return s.conf(t, d, r)
	case "snapshot": // fail: take, and install or lose, the oldest that is wanted
		return "", s.snapshot(d.HasArg("fail"))
	case "take": // of the oldest snapshot that is wanted
		return "", s.c.take(&s.c.wants[0])
	case "ready": // all that is to do, without a sync
		for err == nil && r.g.HasReady() {
			var more string
			more, err = s.c.ready(r)
			out += more
		}
		return out, err
	case "sync":
		return "", s.c.sync(r)
	case "deliver", "drop": // [from=id] [to=id]
		return s.deliver(t, d)
	case "settle":
		return "", s.c.settle()
	case "tick":
		return "", r.g.Tick()
	case "forget":
		return "", r.g.ForgetLeader()
	case "resign":
		return "", r.g.Resign()
	case "transfer":
		to := 0
		d.ScanArgs(t, "to", &to)
		return "", r.g.TransferLeader(metapb.ReplicaID(to))
	case "crash": // [keep=n] of the unsynced commits
		keep := 0
		d.MaybeScanArgs(t, "keep", &keep)
		lost := 0
		s.c.crash(r, func(n int) int { lost = n - min(n, keep); return n - lost })
		return fmt.Sprintf("lost %d commits\n", lost), nil
	case "restart":
		return "", s.c.start(r)
	case "truncate":
		index := uint64(0)
		d.ScanArgs(t, "index", &index)
		b := r.eng.NewBatch()
		if err := r.g.Truncate(b, index); err != nil {
			return "", err
		}
		return "", r.eng.Commit(b, true)
	case "confs":
		s.showConf = true
		defer func() { s.showConf = false }()
		return s.status(), nil
	case "status":
		return s.status(), nil
	case "log":
		err := ReadLog(r.eng, testRange, 0, func(row LogRow) error {
			out += fmt.Sprintf("%d/%d %q\n", row.Term, row.Index, row.Data)
			return row.Err
		})
		return out, err
	case "quiesce": // [dead=(ids)]
		var dead []uint64
		d.MaybeScanArgs(t, "dead", &dead)
		lagging, ok := r.g.Quiesce(func(id metapb.ReplicaID) bool {
			for _, x := range dead {
				if metapb.ReplicaID(x) == id {
					return false
				}
			}
			return true
		})
		return fmt.Sprintf("%t lagging=%v tick=%t\n", ok, lagging, r.g.NeedsTick()), nil
	}
	return "", fmt.Errorf("unknown command %s", d.Cmd)
}

func (s *scene) deliver(t *testing.T, d *datadriven.TestData) (out string, err error) {
	from, to := uint64(0), uint64(0)
	d.MaybeScanArgs(t, "from", &from)
	d.MaybeScanArgs(t, "to", &to)
	for i := 0; i < len(s.c.net); {
		m := s.c.net[i]
		if from != 0 && m.GetFrom() != from || to != 0 && m.GetTo() != to {
			i++
			continue
		}
		out += describe(m) + "\n"
		if d.Cmd == "drop" {
			s.c.net = append(s.c.net[:i:i], s.c.net[i+1:]...)
		} else if err := s.c.deliver(i); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (s *scene) conf(t *testing.T, d *datadriven.TestData, r *testReplica) (string, error) {
	var to Conf
	for name, list := range map[string]*[]metapb.ReplicaID{
		"voters": &to.Voters, "outgoing": &to.VotersOutgoing, "learners": &to.Learners,
	} {
		var ids []uint64
		d.MaybeScanArgs(t, name, &ids)
		*list = replicaIDs(ids)
	}
	index, term, err := r.g.ProposeConf(to, []byte("new"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("at %d/%d\n", term, index), nil
}

func (s *scene) snapshot(fail bool) (err error) {
	w := &s.c.wants[0]
	if !w.taken {
		err = s.c.take(w)
	}
	if err == nil && !fail {
		err = s.c.install(w)
	}
	if err == nil {
		err = w.end(!fail)
	}
	s.c.wants = s.c.wants[1:]
	return err
}

func (s *scene) status() string {
	var out strings.Builder
	for _, r := range s.c.replicas {
		if r.g == nil {
			fmt.Fprintf(&out, "%d: down\n", r.id)
			continue
		}
		if c := r.g.Conf(); s.showConf {
			fmt.Fprintf(&out, "%d: voters=%v outgoing=%v learners=%v\n", r.id, c.Voters, c.VotersOutgoing, c.Learners)
			continue
		}
		fmt.Fprintf(&out, "%d: term=%d leader=%d log=[%d, %d] committed=%d applied=%d\n", r.id,
			r.g.Term(), r.g.Leader(), r.g.FirstIndex(), r.g.LastIndex(), r.g.CommittedIndex(), r.g.AppliedIndex())
	}
	return out.String()
}
