package broker

import (
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// A partition leaves a broker and comes back: the old replica is closed, retired and its files removed before the new one, with another
// id, is born, and only then the metadata hears that the old one is gone.
func TestReplicaLeavesAndComesBack(t *testing.T) {
	dir := cluster.ID{1}
	index := uint64(1)
	request := func() cluster.ID { index++; return cluster.ID{9, byte(index)} }
	state := cluster.NewState(cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: dir}, {NodeID: 2, DirID: cluster.ID{2}}}))
	do := func(command []byte) {
		t.Helper()
		if x, err := cluster.DecodeResult(state.Apply(index, 1, command)); err != nil || x.Reason != cluster.ReasonNone {
			t.Fatalf("%+v, %v", x, err)
		}
	}
	for _, node := range []uint64{1, 2} {
		do(cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: request(), NodeID: node, DirID: cluster.ID{byte(node)}, ClientAddr: "a"}))
	}
	do(cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: request(), Seed: request(), Name: "t", Partitions: 1, ReplicationFactor: 1}))
	p := func() *cluster.Partition {
		topic, _ := state.View().TopicByName("t")
		return &topic.Partitions[0]
	}
	move := func(to uint64) {
		do(cluster.EncodeReassign(cluster.Reassign{RequestID: request(), Name: "t", Nodes: []uint64{to}}))
	}
	settle := func() {
		do(cluster.EncodeSettled(cluster.SettledGroups{RequestID: request(), Groups: state.View().Moving()}))
	}
	if p().Replicas[0].NodeID != 1 {
		move(1)
		settle()
	}
	g, old := p().Group, p().Replicas[0].ID
	fs := vfs.NewMem()
	if err := fs.MkdirAll(groupDir("d", g)); err != nil {
		t.Fatal(err)
	}
	c := newController(1, dir, groupOptions{fs: fs, dataDir: "d"}, state.View().MetadataGroup, []journal.Birth{{Group: g, ReplicaID: old}}, nil)
	c.ViewChanged(state.View())

	move(2)
	if eff := c.ViewChanged(state.View()); len(eff.Remove) > 0 || len(eff.Members) != 1 || len(eff.Members[0].Members.Peers) != 2 {
		t.Fatalf("on the move: %+v", eff)
	}
	settle()
	eff := c.ViewChanged(state.View())
	if len(eff.Remove) != 1 || eff.Remove[0] != g || len(c.Unconfirmed()) != 0 {
		t.Fatalf("settled elsewhere: %+v, unconfirmed %v", eff, c.Unconfirmed())
	}
	if x, _ := cluster.DecodeResult(state.Apply(index+1, 1, cluster.EncodeReassign(cluster.Reassign{RequestID: request(), Name: "t", Nodes: []uint64{1}}))); x.Reason != cluster.ReasonInProgress {
		t.Errorf("a new replica may come before the old one is gone: %+v", x)
	}
	if eff := c.Removed([]partition.GroupID{g}); len(eff.Sync.Retire) != 1 {
		t.Fatalf("closed: %+v", eff)
	}
	if eff := c.Retired([]partition.GroupID{g}); len(eff.Failed)+len(eff.Sync.Births) > 0 {
		t.Fatalf("retired: %+v", eff)
	}
	if _, _, err := fs.Stat(groupDir("d", g)); !vfs.IsNotExist(err) {
		t.Errorf("its files are still there: %v", err)
	}
	if u := c.Unconfirmed(); len(u) != 1 || u[0] != g {
		t.Fatalf("to be confirmed: %v", u)
	}
	do(cluster.EncodeConfirmRemoved(cluster.ConfirmRemoved{RequestID: request(), DirID: dir, Groups: c.Unconfirmed()}))
	move(1)
	eff = c.ViewChanged(state.View())
	if len(eff.Sync.Births) != 1 || eff.Sync.Births[0].Birth.ReplicaID <= old || len(c.Unconfirmed()) != 0 {
		t.Fatalf("back: %+v", eff)
	}
}

// What other brokers tell of the metadata group's replicas reaches its replica only while the metadata here has not come as far, and says
// nothing about who shall vote.
func TestRosterIsAheadOfTheView(t *testing.T) {
	dir := cluster.ID{1}
	state := cluster.NewState(cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: dir}, {NodeID: 2, DirID: cluster.ID{2}}, {NodeID: 3, DirID: cluster.ID{3}}}))
	meta := state.View().MetadataGroup
	c := newController(1, dir, groupOptions{}, meta, []journal.Birth{{Group: meta, ReplicaID: 1}}, nil)
	c.ViewChanged(state.View())
	seen := []partition.Peer{{ReplicaID: 9, Node: 2}}
	eff := c.RosterChanged(7, seen)
	if len(eff.Members) != 1 || eff.Members[0].Members.Version != 7 || len(eff.Members[0].Members.Voters) != 0 || len(eff.Members[0].Members.Peers) != 4 {
		t.Fatalf("ahead: %+v", eff.Members)
	}
	if eff := c.RosterChanged(7, seen); len(eff.Members) != 0 {
		t.Errorf("told twice: %+v", eff.Members)
	}
	state.Apply(7, 1, cluster.EncodeJoinBroker(cluster.JoinBroker{RequestID: cluster.ID{7}, NodeID: 2, DirID: cluster.ID{22}, OldDirID: cluster.ID{2}, PeerAddr: "a"}))
	if eff := c.ViewChanged(state.View()); len(eff.Members) != 1 || eff.Members[0].Members.Version != 7 || len(eff.Members[0].Members.Voters) != 3 {
		t.Errorf("the view has come as far: %+v", eff.Members)
	}
	if eff := c.RosterChanged(7, seen); len(eff.Members) != 0 {
		t.Errorf("the view knows better: %+v", eff.Members)
	}
}

// A broker that confirmed a tombstone starts again with a view from before it and gives birth to the replica anew: the newer view, in which
// there is no tombstone any more, has it removed. A view that is too old to know a replica removes nothing (broker/sim seed
// 1795790133472002546).
func TestReplicaBornFromAnOldViewIsRemoved(t *testing.T) {
	dir := cluster.ID{7}
	state := cluster.NewState(cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: dir}}))
	state.Apply(2, 1, cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: cluster.ID{2}, NodeID: 1, DirID: dir, ClientAddr: "a"}))
	before := state.View()
	state.Apply(3, 1, cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: cluster.ID{3}, Seed: cluster.ID{4}, Name: "t", Partitions: 1, ReplicationFactor: 1}))
	topic, ok := state.View().TopicByName("t")
	if !ok {
		t.Fatal("the topic was not created")
	}
	p := topic.Partitions[0]
	c := newController(1, dir, groupOptions{}, state.View().MetadataGroup, []journal.Birth{{Group: p.Group, ReplicaID: p.Replicas[0].ID}}, nil)
	for _, v := range []*cluster.View{before, state.View()} {
		if eff := c.ViewChanged(v); len(eff.Remove) > 0 {
			t.Fatalf("view %d removes %x", v.Version, eff.Remove)
		}
	}
	state.Apply(4, 1, cluster.EncodeDeleteTopic(cluster.DeleteTopic{RequestID: cluster.ID{5}, Name: "t"}))
	state.Apply(5, 1, cluster.EncodeConfirmRemoved(cluster.ConfirmRemoved{RequestID: cluster.ID{6}, DirID: dir, Groups: []cluster.ID{p.Group}}))
	if eff := c.ViewChanged(state.View()); len(eff.Remove) != 1 || eff.Remove[0] != p.Group {
		t.Errorf("no view places it, and nothing removes it: %+v", eff)
	}
}
