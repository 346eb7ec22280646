package node

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/placement"
)

// activeAlarms are the alarms of the cluster: those that requests are judged by, and
// those that end no service, since what is corrupt is out of it.
type activeAlarms struct {
	active    []*pb.AlarmMember
	contained []*pb.AlarmMember
	asked     uint64 // when it was asked for them, in the order of alarmAsks
}

// setAlarms has requests judged by these alarms, unless others are known that were
// asked for later.
func (p *Published) setAlarms(asked uint64, alarms []placement.Alarm) {
	next := &activeAlarms{asked: asked}
	for _, a := range alarms {
		m := &pb.AlarmMember{MemberID: uint64(a.Member), Alarm: a.Type}
		if a.Contained {
			next.contained = append(next.contained, m)
		} else {
			next.active = append(next.active, m)
		}
	}
	for {
		old := p.alarms.Load()
		if old != nil && old.asked > asked || p.alarms.CompareAndSwap(old, next) {
			return
		}
	}
}

func alarmMembers(alarms []placement.Alarm) []*pb.AlarmMember {
	var out []*pb.AlarmMember
	for _, a := range alarms {
		out = append(out, &pb.AlarmMember{MemberID: uint64(a.Member), Alarm: a.Type})
	}
	return out
}
