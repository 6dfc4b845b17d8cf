package rpc

import (
	"slices"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// A partition is not forced while the directory of a node that is said to be gone is registered: its broker could come back and be listened
// to. Asking is free; once the directory is given up, whoever recovers the partition need not name the node. The metadata group can't retire
// anything before it is forced.
func TestRecoverWantsRetiredDirectories(t *testing.T) {
	d := newDesk(t, 1)
	d.state = cluster.NewState(cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: cluster.ID{1}}, {NodeID: 2, DirID: cluster.ID{2}}}))
	for n := byte(1); n <= 2; n++ {
		d.apply(cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: cluster.ID{9, n}, NodeID: uint64(n), DirID: cluster.ID{n}, Version: cluster.SayKnown("v", cluster.CommandsKnown)}))
	}
	d.apply(cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: cluster.ID{9, 3}, Seed: cluster.ID{2}, Name: "t", Partitions: 1, ReplicationFactor: 2}))
	topic, _ := d.View().TopicByName("t")
	at := slices.IndexFunc(topic.Partitions[0].Replicas, func(r cluster.Replica) bool { return r.NodeID == 2 })
	lost := topic.Partitions[0].Replicas[at].ID
	ask := func(in *pb.RecoverRequest) *partition.Request {
		t.Helper()
		d.s = NewRecover(d.env())
		eff := d.step(&Event{Message: in})
		if len(eff.Requests) == 0 {
			return nil
		}
		return &eff.Requests[0]
	}
	if q := ask(&pb.RecoverRequest{Topic: "t", GoneNodes: []uint64{2}}); q == nil || !slices.Equal(q.Gone, []uint64{lost}) || q.Offset != 0 {
		t.Fatalf("the plan asks %+v", q)
	}
	if q := ask(&pb.RecoverRequest{Topic: "t", GoneNodes: []uint64{2}, AcceptLoss: true}); q != nil {
		t.Fatalf("a partition is forced beside a registered directory: %+v", q)
	}
	if q := ask(&pb.RecoverRequest{Metadata: true, GoneNodes: []uint64{2}, AcceptLoss: true}); q == nil || len(q.Gone) != 1 || q.Offset != 1 {
		t.Fatalf("the metadata group: %+v", q)
	}
	d.apply(cluster.EncodeForfeit(cluster.Forfeit{RequestID: cluster.ID{9, 4}, Lost: []cluster.LostDirectory{{NodeID: 2, DirID: cluster.ID{2}}}}))
	for _, nodes := range [][]uint64{{2}, nil} {
		if q := ask(&pb.RecoverRequest{Topic: "t", GoneNodes: nodes, AcceptLoss: true}); q == nil || !slices.Equal(q.Gone, []uint64{lost}) || q.Offset != 1 {
			t.Fatalf("given up, nodes %v: %+v", nodes, q)
		}
	}
}
