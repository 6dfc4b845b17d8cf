package sim

import "testing"

// A bit that turned in a sealed segment nobody reads is found and repaired by the daily pass, within a day and the time that the pass
// takes, without anyone asking for it.
func TestSimDailyScrub(t *testing.T) {
	const day, tickEvery = int64(24 * 3600e9), int64(20e9)
	for _, seed := range oneSeed(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		w, topic := newCluster(t, o)
		writers := startWriters(w, topic, 200)
		finishWriters(t, w, seed, writers)
		w.RunFor(20e9) // the first pass, which follows a start, is over
		n, part := w.Node(1+seed%3), &topic.Partitions[0]
		if n.Replica(part.Group).Scrubs() != 1 {
			failure(t, w, seed, "%d passes after 20 s, want 1", n.Replica(part.Group).Scrubs())
		}
		logs := n.logsOf(t, part.Group)
		if len(logs) < 3 {
			failure(t, w, seed, "%d segments", len(logs))
		}
		if err := n.fs.Corrupt(logs[0], segmentHead+70, 4); err != nil {
			t.Fatal(err)
		}
		// From here on ticks are far apart: a day of short ones would take as long as all other tests. No election is lost by that, because
		// all brokers' ticks are.
		w.opts.TickEvery = tickEvery
		w.RunFor(day / 2)
		if w.Counts.Damages != 0 {
			failure(t, w, seed, "found after half a day: by whom?")
		}
		if !w.RunUntil(day/2+3600e9, func() bool { return w.Counts.Repairs > 0 }) {
			failure(t, w, seed, "%d damages found and %d repaired a day and an hour later", w.Counts.Damages, w.Counts.Repairs)
		}
		if passes := n.Replica(part.Group).Scrubs(); passes != 2 {
			failure(t, w, seed, "found in pass %d, want 2", passes)
		}
		checkAll(t, w, seed, topic, writers)
	}
}
