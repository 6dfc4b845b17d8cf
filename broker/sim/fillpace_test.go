package sim

import "testing"

// fillCaughtUp is less than what the writers append in a tenth of a second.
const fillCaughtUp = 60

// The writers of a partition are faster than the pace of a fill: a broker that comes back far behind is there again while they go on, and
// not only when they stop.
func TestSimFillOvertakesWriters(t *testing.T) {
	for _, seed := range oneSeed(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		o.FillBytesPerTick = 1 << 10
		w, topic := newCluster(t, o)
		writers, acked := endless(w, topic)
		w.RunFor(500e6)
		victim := 1 + seed%3
		w.Isolate(victim)
		w.RunFor(3e9)
		w.Heal()
		before := acked()
		behind := func() (lag uint64) {
			for i := range topic.Partitions {
				g := topic.Partitions[i].Group
				l := w.Leader(&topic.Partitions[i])
				if l == 0 {
					return 1 << 60
				}
				lag += w.Node(l).Replica(g).Applied() - min(w.Node(victim).Replica(g).Applied(), w.Node(l).Replica(g).Applied())
			}
			return lag
		}
		if !w.RunUntil(60e9, func() bool { return w.Counts.Installs > 0 && behind() < fillCaughtUp }) {
			failure(t, w, seed, "node %d is %d entries behind after a minute of writes, %d fills and %d installs", victim, behind(), w.Counts.Fills, w.Counts.Installs)
		}
		if w.RunFor(1e9); acked() == before {
			t.Errorf("seed %d: nothing was written meanwhile", seed)
		}
		stopAll(writers)
		w.RunFor(5e9)
		healed(t, w, seed, topic)
	}
}
