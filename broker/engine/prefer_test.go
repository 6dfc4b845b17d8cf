package engine

import (
	"slices"
	"testing"

	"lograft/broker/partition"
	"lograft/raft"
)

// A worker hands one group at a time to its preferred leader, however many wait for it: when a broker comes back, its leaders come back one
// after the other. Three brokers; node 3 shall lead all five groups, of which the workers of nodes 1 and 2 lead two each.
func TestHandoversComeOneByOne(t *testing.T) {
	w := newTrio(t, 1, false)
	for node := uint64(1); node <= 3; node++ {
		for _, s := range w.workers[node].order {
			g := s.replica.Group()
			w.step(node, Event{Members: &GroupMembers{Group: g, Members: partition.Membership{Version: 1, Voters: []uint64{1, 2, 3}, Preferred: 3,
				Peers: []partition.Peer{{ReplicaID: 1, Node: 1}, {ReplicaID: 2, Node: 2}, {ReplicaID: 3, Node: 3}}}}})
		}
	}
	handed := map[uint64][]int{} // by worker: at which ticks
	for tick := 1; tick <= 40*lazyTicks; tick++ {
		w.now += 100e6
		for node := uint64(1); node <= 3; node++ {
			w.tick(node)
		}
		w.deliver(func(l *letter) bool {
			if l.m.Raft.Type == raft.MsgTimeoutNow {
				handed[l.m.From] = append(handed[l.m.From], tick)
			}
			return false
		})
	}
	for node := uint64(1); node <= 2; node++ {
		ticks := handed[node]
		if len(ticks) != 2 {
			t.Fatalf("node %d handed over at ticks %v, want twice", node, ticks)
		}
		if d := ticks[1] - ticks[0]; d < lazyTicks/2 {
			t.Errorf("node %d handed over at ticks %v: one in %d ticks is allowed", node, ticks, lazyTicks)
		}
	}
	if len(handed[3]) > 0 || slices.ContainsFunc(w.workers[3].order, func(s *slot) bool { return !s.replica.IsLeader() }) {
		t.Errorf("node 3 does not lead all: %v", handed)
	}
}
