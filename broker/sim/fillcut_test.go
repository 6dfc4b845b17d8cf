package sim

import "testing"

// The power of a broker that is being filled goes at some call of its disk, again and again: while files come, between the journal's mark
// and the swap, in the middle of the swap. What it finds afterwards is the old log or the new one, never a mixture that it could not open or
// would take for damage.
func TestSimFillPowerCut(t *testing.T) {
	cuts, installs := 0, 0
	all := seeds(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		o.FillBytesPerTick = 256 << 10
		w, topic := newCluster(t, o)
		writers, _ := endless(w, topic)
		w.RunFor(500e6)
		victim := w.Node(1 + seed%3)
		for range 6 {
			w.Isolate(victim.id)
			w.RunFor(w.between(400e6, 800e6))
			w.Heal()
			before := w.Counts.Fills
			if !w.RunUntil(20e9, func() bool { return w.Counts.Fills > before || !victim.up }) {
				failure(t, w, seed, "node %d is not filled", victim.id)
			}
			victim.disk.cutAfter = 1 + w.rng.IntN(100)
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
		checkAll(t, w, seed, topic, writers)
		installs += w.Counts.Installs
	}
	t.Logf("%d power cuts, %d installs", cuts, installs)
	if cuts < 3*len(all) || installs < len(all) {
		t.Errorf("%d power cuts and %d installs in %d runs: too gentle", cuts, installs, len(all))
	}
}
