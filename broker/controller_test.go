package broker

import (
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/segment/journal"
)

// A replica that was removed for good does not come back when the view at boot is older than its removal: it would be the same Raft
// id without its log and its votes.
func TestRetiredReplicaIsNotBornAgain(t *testing.T) {
	dir := cluster.ID{1}
	birth := cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: dir}})
	state := cluster.NewState(birth)
	state.Apply(2, 1, cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: cluster.ID{2}, NodeID: 1, DirID: dir, ClientAddr: "a"}))
	state.Apply(3, 2, cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: cluster.ID{3}, Seed: cluster.ID{4}, Name: "t", Partitions: 1, ReplicationFactor: 1}))
	topic, ok := state.View().TopicByName("t")
	if !ok {
		t.Fatal("the topic was not created")
	}
	p := topic.Partitions[0]
	born := func(retired ...journal.Birth) int {
		c := newController(1, dir, groupOptions{}, partition.GroupID{9}, nil, retired)
		return len(c.ViewChanged(state.View()).Sync.Births)
	}
	if n := born(); n != 1 {
		t.Errorf("%d births on an empty broker", n)
	}
	for _, id := range []uint64{p.Replicas[0].ID, 0} {
		if n := born(journal.Birth{Group: p.Group, ReplicaID: id}); n != 0 {
			t.Errorf("replica %d was retired and is born again", id)
		}
	}
}
