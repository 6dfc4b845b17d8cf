package sim

import (
	"slices"
	"testing"

	"lograft/broker"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// spoilEnd takes n's persist marks and makes every frame of its newest segment bad: nobody knows where that log ended. It reports false if
// there is no frame.
func (n *Node) spoilEnd(t *testing.T, part *cluster.Partition) bool {
	t.Helper()
	logs := n.logsOf(t, part.Group)
	newest := logs[len(logs)-1]
	size, _, err := n.fs.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	if size <= segmentHead {
		return false
	}
	if err := n.fs.Remove(dataDir + "/journal/marks"); err != nil {
		t.Fatal(err)
	}
	for at := int64(segmentHead); at < size; at += 8 {
		if err := n.fs.Corrupt(newest, at, 0x55); err != nil {
			t.Fatal(err)
		}
	}
	return true
}

// refills reports whether n's last start found a replica that has to be refilled.
func (n *Node) refills(g partition.GroupID) bool {
	return slices.ContainsFunc(n.parts.Recovered, func(r broker.Recovered) bool { return r.Group == g && r.Refilling })
}

// A follower lost the end of its log, and nobody knows how much, while the group is at rest: its leader believes it to hold everything and sends
// nothing. It asks, grants no vote until it holds what that leader held, also after another start, and is whole without a record more.
// Found by TestSimLostMarks, seed 1795816451560951640: the one frame of the newest segment was bad, and the replica waited for ever.
func TestSimEndLost(t *testing.T) {
	lost := 0
	all := seeds(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, fillOptions(seed))
		writers := startWriters(w, topic, 300)
		finishWriters(t, w, seed, writers)
		w.RunFor(2e9)
		part := &topic.Partitions[0]
		n := w.Node(leaderOf(w, part)%3 + 1)
		n.Crash()
		if !n.spoilEnd(t, part) {
			continue
		}
		lost++
		for range 2 {
			boot(t, w, n.id, seed)
			if !n.refills(part.Group) {
				failure(t, w, seed, "node %d lost the end of its log and would vote", n.id)
			}
			n.Crash()
		}
		boot(t, w, n.id, seed)
		if !w.RunUntil(20e9, func() bool { r := n.Replica(part.Group); return r != nil && !r.Refilling() && len(r.Damaged()) == 0 }) {
			failure(t, w, seed, "node %d is not whole after 20 s: damaged %v", n.id, n.Replica(part.Group).Damaged())
		}
		healed(t, w, seed, topic)
		n.Crash()
		boot(t, w, n.id, seed)
		if n.refills(part.Group) {
			failure(t, w, seed, "the refill of node %d begins again", n.id)
		}
		checkAll(t, w, seed, topic, writers)
	}
	if lost == 0 && len(all) > 1 {
		t.Errorf("no log of %d lost its end: too gentle", len(all))
	}
}

// A partition that was born with one replica and has three now: the first of them, which its birth says to be alone, loses the end of its log as
// a follower. It does not vote, and is refilled, as any of three.
func TestSimEndLostOfTheFirst(t *testing.T) {
	lost := 0
	all := seeds(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		w, _ := newCluster(t, fillOptions(seed))
		topic, err := w.CreateTopic("grown", 1, 1)
		if err != nil {
			failure(t, w, seed, "create: %v", err)
		}
		part := &topic.Partitions[0]
		n := w.Node(part.Replicas[0].NodeID)
		cmd := cluster.EncodeReassign(cluster.Reassign{RequestID: w.requestID(), Name: "grown", Nodes: []uint64{1, 2, 3}})
		if _, err := w.Propose(n.id, cmd, 30e9); err != nil {
			failure(t, w, seed, "reassign: %v", err)
		}
		grown := func() bool {
			x, ok := w.view().TopicByName("grown")
			return ok && len(x.Partitions[0].Replicas) == 3 && !x.Partitions[0].Moving()
		}
		if !w.RunUntil(60e9, grown) {
			failure(t, w, seed, "the partition has not three replicas after 60 s")
		}
		n.Crash() // somebody else leads
		w.RunFor(10e9)
		boot(t, w, n.id, seed)
		now, _ := w.view().TopicByName("grown")
		writer := w.NewWriter(7, now, 0, 200)
		writer.Start()
		if !w.RunUntil(60e9, writer.Done) {
			failure(t, w, seed, "not written")
		}
		w.RunFor(3e9)
		if leaderOf(w, part) == n.id {
			continue
		}
		n.Crash()
		if !n.spoilEnd(t, part) {
			continue
		}
		lost++
		boot(t, w, n.id, seed)
		if !n.refills(part.Group) {
			failure(t, w, seed, "node %d lost the end of its log and would vote", n.id)
		}
		if !w.RunUntil(20e9, func() bool { r := n.Replica(part.Group); return r != nil && !r.Refilling() && len(r.Damaged()) == 0 }) {
			failure(t, w, seed, "node %d is not whole after 20 s", n.id)
		}
	}
	if lost == 0 && len(all) > 1 {
		t.Errorf("no log of %d lost its end: too gentle", len(all))
	}
}
