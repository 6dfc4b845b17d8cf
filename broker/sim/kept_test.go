package sim

import (
	"fmt"
	"path"
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// rotKept turns a bit in every file that a broker keeps of segments which its log has dropped, and says how many those are.
func (n *Node) rotKept(t *testing.T, p *cluster.Partition) (count int) {
	t.Helper()
	first := n.w.describe(n.id, p).FirstIndex
	for _, name := range n.logsOf(t, p.Group) {
		base := uint64(0)
		if _, err := fmt.Sscanf(path.Base(name), "%d.log", &base); err != nil || base >= first {
			continue
		}
		if err := n.fs.Corrupt(name, segmentHead+60, 1); err != nil {
			t.Fatal(err)
		}
		n.w.Log("node %d: bit of kept %s turned", n.id, name)
		count++
	}
	return count
}

// Replicas are filled while their leader trims everything, and all that it keeps for them rots: it gives these files up when the first of
// them is refused, and everybody is whole soon. TestSimSeeds, seed 1795807522475422980 on 27e1740: the leader sent the rotten file for
// as long as it was asked for it.
func TestSimKeptFileRots(t *testing.T) {
	found := 0
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.FillBytesPerTick = 2 << 10
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		writers, _ := endless(w, topic)
		w.RunFor(500e6)
		behind := w.Node(1 + seed%3)
		w.Isolate(behind.id)
		w.RunFor(4e9)
		w.Heal()
		stopAll(writers)
		if !w.RunUntil(20e9, func() bool { return behind.Replica(part.Group).Filling() }) {
			failure(t, w, seed, "node %d is not filled", behind.id)
		}
		l := leaderOf(w, part)
		if l == 0 || l == behind.id {
			failure(t, w, seed, "node %d is being filled, and node %d leads", behind.id, l)
		}
		w.Node(l).Request(partition.Request{Op: partition.OpTrim, Group: part.Group, Offset: partition.TrimAll, Deadline: w.now + 5e9}, func(partition.Reply) {})
		w.RunFor(300e6)
		rotten := w.Node(l).rotKept(t, part)
		began := w.now
		healed(t, w, seed, topic)
		if took := w.now - began; rotten > 0 && took > 30e9 {
			failure(t, w, seed, "whole only after %d s", took/1e9)
		}
		found += w.Counts.Faults["kept file rotten"]
		t.Logf("%d kept files rotted, %d found", rotten, w.Counts.Faults["kept file rotten"])
	}
	if found == 0 {
		t.Error("no kept file was found rotten: too gentle to prove anything")
	}
}
