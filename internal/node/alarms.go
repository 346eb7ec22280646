package node

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/placement"
)

// activeAlarms are the alarms that requests are judged by.
type activeAlarms struct {
	active []*pb.AlarmMember
	asked  uint64 // when it was asked for them, in the order of alarmAsks
}

// setAlarms has requests judged by these alarms, unless others are known that were
// asked for later.
func (p *Published) setAlarms(asked uint64, alarms []placement.Alarm) {
	next := &activeAlarms{active: alarmMembers(alarms), asked: asked}
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
