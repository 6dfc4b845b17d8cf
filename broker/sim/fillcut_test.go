package sim

import (
	"testing"

	"lograft/broker/partition"
)

// The power of a broker that is being filled goes at some call of its disk, again and again: while files come, between the journal's mark
// and the swap, in the middle of the swap. What it finds afterwards is the old log or the new one, never a mixture that it could not open or
// would take for damage.
func TestSimFillPowerCut(t *testing.T) {
	cuts, installs := 0, 0
	all := oneSeed(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		o.FillBytesPerTick = 256 << 10
		w, topic := newCluster(t, o)
		writers, _ := endless(w, topic)
		w.RunFor(500e6)
		victim := w.Node(1 + seed%3)
		for range 8 {
			w.Isolate(victim.id)
			w.RunFor(w.between(400e6, 800e6))
			for i := range topic.Partitions { // what it lacks begins behind what it has: a half swapped log would have a hole
				if l := w.Leader(&topic.Partitions[i]); l != 0 && w.percent(80) {
					w.Node(l).Request(partition.Request{Op: partition.OpTrim, Group: topic.Partitions[i].Group, Offset: partition.TrimAll, Deadline: w.now + 2e9}, func(partition.Reply) {})
				}
			}
			w.RunFor(1500e6)
			w.Heal()
			before := w.Counts.Fills
			if !w.RunUntil(3e9, func() bool { return w.Counts.Fills > before }) {
				continue // too little was missed
			}
			if w.percent(75) { // most of them close to the swap
				w.RunUntil(2e9, func() bool {
					return victim.Replica(topic.Partitions[0].Group).Installing() || victim.Replica(topic.Partitions[1].Group).Installing()
				})
			}
			victim.disk.cutAfter = 1 + w.rng.IntN(40)
			w.RunUntil(1e9, func() bool { return !victim.up })
			if !victim.up {
				cuts++
			}
			victim.disk.cutAfter = 0
			boot(t, w, victim.id, seed)
			w.RunFor(200e6)
			if w.Counts.Losts > 0 || w.Counts.Damages > 0 {
				failure(t, w, seed, "node %d finds a log that is neither the old one nor the new one", victim.id)
			}
		}
		stopAll(writers)
		w.RunFor(5e9)
		healed(t, w, seed, topic)
		for i := range topic.Partitions {
			start := int64(0)
			for _, n := range w.nodes {
				start = max(start, n.Replica(topic.Partitions[i].Group).LogStart())
			}
			checkFrom(t, w, seed, &topic.Partitions[i], writers, start)
		}
		installs += w.Counts.Installs
	}
	t.Logf("%d power cuts, %d installs", cuts, installs)
	if cuts < 3*len(all) || installs < len(all) {
		t.Errorf("%d power cuts and %d installs in %d runs: too gentle", cuts, installs, len(all))
	}
}

// The receiver of a fill loses power and comes back: the leader begins anew within three seconds, long before its timeout for a
// snapshot is over.
func TestSimFillReceiverRestarts(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		o.FillBytesPerTick = 4 << 10
		w, topic := newCluster(t, o)
		writers, _ := endless(w, topic)
		w.RunFor(500e6)
		victim := w.Node(1 + seed%3)
		w.Isolate(victim.id)
		w.RunFor(3e9)
		stopAll(writers)
		w.Heal()
		if !w.RunUntil(20e9, func() bool { return w.Counts.Fills > 0 }) {
			failure(t, w, seed, "node %d is not filled", victim.id)
		}
		w.RunFor(100e6)
		victim.Crash()
		w.RunFor(500e6)
		before := w.Counts.Fills
		boot(t, w, victim.id, seed)
		if !w.RunUntil(3e9, func() bool { return w.Counts.Fills > before }) {
			failure(t, w, seed, "node %d is not filled again within 3 s", victim.id)
		}
		healed(t, w, seed, topic)
	}
}
