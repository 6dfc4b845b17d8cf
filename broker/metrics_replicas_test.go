package broker

import (
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/broker/rpc"
)

// A replica that is being refilled mends by itself: it is counted apart from those that somebody has to look at.
func TestRefillingIsNotFaulty(t *testing.T) {
	s := replicaSample{states: []*pb.ReplicaState{
		{Topic: "t", Node: 1, ReplicaId: 1, LeaderNode: 1, LastIndex: 9, Match: map[uint64]uint64{1: 9, 2: 9}},
		{Topic: "t", Node: 1, ReplicaId: 4, Problem: rpc.ProblemRefilling},
		{Topic: "t", Node: 1, ReplicaId: 7, Problem: "halted"},
		{Topic: "t", Node: 1, ReplicaId: 8, LeaderNode: 2, Faulty: []*pb.FaultyRange{{FromIndex: 3, ToIndex: 3}}},
	}}
	s.count(map[uint64]uint64{1: 1, 2: 2}, map[uint64]bool{2: true})
	if s.refilling != 1 || s.faulty != 1 || s.damaged != 1 || s.underReplicated != 1 {
		t.Errorf("refilling %d, faulty %d, damaged %d, under-replicated %d; want 1 each", s.refilling, s.faulty, s.damaged, s.underReplicated)
	}
}
