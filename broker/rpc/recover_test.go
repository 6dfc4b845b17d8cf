package rpc

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// A partition is not forced while the directory of a node that is said to be gone is registered: its broker could come back and be listened
// to. Asking is free; once the directory is given up, whoever recovers the partition need not name the node. The metadata group can't retire
// anything before it is forced.
func TestRecoverWantsRetiredDirectories(t *testing.T) {
	d, lost := pairDesk(t)
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

// pairDesk has topic t with a replica on each of nodes 1 and 2; lost is the id of the latter.
func pairDesk(t *testing.T) (d *desk, lost uint64) {
	t.Helper()
	d = newDesk(t, 1)
	d.state = cluster.NewState(cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: cluster.ID{1}}, {NodeID: 2, DirID: cluster.ID{2}}}))
	for n := byte(1); n <= 2; n++ {
		d.apply(cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: cluster.ID{9, n}, NodeID: uint64(n), DirID: cluster.ID{n}, Version: cluster.SayKnown("v", cluster.CommandsKnown)}))
	}
	d.apply(cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: cluster.ID{9, 3}, Seed: cluster.ID{2}, Name: "t", Partitions: 1, ReplicationFactor: 2}))
	topic, _ := d.View().TopicByName("t")
	at := slices.IndexFunc(topic.Partitions[0].Replicas, func(r cluster.Replica) bool { return r.NodeID == 2 })
	return d, topic.Partitions[0].Replicas[at].ID
}

// A broker that should have a replica and has none could not open it: that is not the answer of one where none belongs.
func TestRecoverTellsWhoCouldNotOpen(t *testing.T) {
	d, _ := pairDesk(t)
	d.apply(cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: cluster.ID{9, 6}, Seed: cluster.ID{3}, Name: "one", Partitions: 2, ReplicationFactor: 1}))
	topic, _ := d.View().TopicByName("one")
	seen := map[partition.Reason]bool{}
	for _, p := range topic.Partitions { // one on each node
		want := partition.ReasonFaulty
		if p.Replicas[0].NodeID != d.NodeID() {
			want = partition.ReasonUnknownGroup
		}
		d.s = NewRecover(d.env())
		q := d.step(&Event{Message: &pb.RecoverRequest{Topic: "one", Partition: p.Number, GoneNodes: []uint64{2}}}).Requests[0]
		eff := d.step(&Event{Reply: &partition.Reply{Token: q.Token, Err: &partition.Error{Reason: partition.ReasonUnknownGroup}}})
		if eff.Err == nil || eff.Err.Reason != want {
			t.Errorf("partition %d on node %d: %v, want %s", p.Number, p.Replicas[0].NodeID, eff.Err, want)
		}
		seen[want] = true
	}
	if len(seen) != 2 {
		t.Errorf("asked of %v", topic.Partitions)
	}
}

// Who is connected is not gone: the plan says so, and neither a group nor a directory is given up.
func TestRecoverRefusesWhoIsConnected(t *testing.T) {
	d, _ := pairDesk(t)
	up := true
	env := func() *Env {
		e := d.env()
		e.Connected = func(node uint64) bool { return up && node == 2 }
		return e
	}
	d.s = NewRecover(env())
	q := d.step(&Event{Message: &pb.RecoverRequest{Metadata: true, GoneNodes: []uint64{1, 2}}}).Requests[0]
	eff := d.step(&Event{Reply: &partition.Reply{Token: q.Token, Recovery: &partition.Recovery{}}})
	if x := eff.Send[0].(*pb.RecoverResponse); !slices.Equal(x.GetConnectedNodes(), []uint64{1, 2}) {
		t.Errorf("connected are %v", x.GetConnectedNodes())
	}
	inUse := func(what string, s Session, in proto.Message) {
		t.Helper()
		d.s = s
		if eff := d.step(&Event{Message: in}); eff.Err == nil || eff.Err.Reason != partition.Reason(cluster.ReasonBrokerInUse) {
			t.Errorf("%s: %v", what, eff.Err)
		}
	}
	inUse("a group", NewRecover(env()), &pb.RecoverRequest{Metadata: true, GoneNodes: []uint64{2}, AcceptLoss: true})
	inUse("a directory", NewForfeitBrokers(env()), &pb.ForfeitBrokersRequest{Nodes: []uint64{2}})
	up = false
	inUse("the leader's own", NewForfeitBrokers(env()), &pb.ForfeitBrokersRequest{Nodes: []uint64{1}})
}

// What is given up is the directory that the plan showed: the command names it, and if another one is registered it is refused. A node that has
// none any more has nothing to give up, so the call can be made again.
func TestForfeitNamesThePlansDirectory(t *testing.T) {
	d, _ := pairDesk(t)
	ask := func(dirs ...[]byte) (command []byte, err *partition.Error) {
		d.s = NewForfeitBrokers(d.env())
		id := cluster.ID{8, byte(applies)}
		eff := d.step(&Event{Message: &pb.ForfeitBrokersRequest{Nodes: []uint64{2}, Directories: dirs, RequestId: id[:]}})
		if eff.Err != nil {
			return nil, eff.Err
		}
		return eff.Requests[0].Command, nil
	}
	apply := func(command []byte) cluster.Reason {
		applies++
		x, err := cluster.DecodeResult(d.state.Apply(applies, 0, command))
		if err != nil {
			t.Fatal(err)
		}
		return x.Reason
	}
	is, was := cluster.ID{2}, cluster.ID{7}
	for _, dir := range [][]byte{was[:], nil, {1}} {
		if command, err := ask(dir); err != nil || apply(command) != cluster.ReasonWrongDirectory {
			t.Errorf("directory %x: %v", dir, err)
		}
	}
	if _, err := ask(is[:], is[:]); err == nil {
		t.Error("two directories of one node")
	}
	for i := range 2 {
		if command, err := ask(is[:]); err != nil || apply(command) != cluster.ReasonNone {
			t.Errorf("time %d: %v", i, err)
		}
	}
}

// follower is a desk of which node 2 leads everything.
type follower struct{ *desk }

func (follower) Leader(partition.GroupID) (node, replica uint64, epoch int32) { return 2, 2, 1 }

// Only the metadata group's leader gives up directories: it hears of every broker that runs.
func TestForfeitIsTheLeaders(t *testing.T) {
	d, _ := pairDesk(t)
	env := d.env()
	env.Dir = follower{d}
	d.s = NewForfeitBrokers(env)
	if eff := d.step(&Event{Message: &pb.ForfeitBrokersRequest{Nodes: []uint64{2}}}); eff.Err == nil || eff.Err.Reason != partition.ReasonNotLeader || eff.Err.LeaderNode != 2 {
		t.Errorf("%v", eff.Err)
	}
}
