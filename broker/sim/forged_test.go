package sim

import (
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/raft"
)

// termOf is the term of a partition's replica on a broker.
func termOf(w *World, node uint64, part *cluster.Partition) uint64 {
	_, _, term := w.Node(node).Replica(part.Group).Leader()
	return term
}

// A broker that claims to speak for a replica on another broker is not heard, whatever it says; from its own broker the same message
// is.
func TestSimForgedSender(t *testing.T) {
	seed := seeds(t)[0]
	t.Logf("seed %d", seed)
	w, topic := newCluster(t, DefaultOptions(seed))
	part := &topic.Partitions[0]
	w.RunFor(5e9)
	replica := map[uint64]uint64{}
	for _, r := range part.Replicas {
		replica[r.NodeID] = r.ID
	}
	before := termOf(w, 2, part)
	if before == 0 {
		failure(t, w, seed, "node 2 knows no term of the partition")
	}
	say := func(from uint64) {
		n := w.Node(2)
		m := raft.Message{Type: raft.MsgHeartbeat, From: replica[1], To: replica[2], Term: before + 100}
		n.post(engine.WorkerOf(part.Group, len(n.workers)), engine.Event{Messages: []engine.Message{{From: from, Group: part.Group, Raft: m}}})
		w.RunFor(1e6)
	}
	say(3)
	if got := termOf(w, 2, part); got != before {
		failure(t, w, seed, "node 3 spoke for node 1 and moved node 2 from term %d to %d", before, got)
	}
	say(1)
	if got := termOf(w, 2, part); got != before+100 {
		failure(t, w, seed, "node 1 spoke for itself and node 2 stayed at term %d: this test proves nothing", got)
	}
}
