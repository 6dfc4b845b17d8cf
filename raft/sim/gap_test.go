package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// gapKills are the kills of a leader in one run of gaps.
const gapKills = 20

// gaps kills leader after leader of a cluster as brokers make it, timed as theirs: 10 to 14 ticks without a leader, messages that take
// up to 1 or 10 hundredths of a tick, syncs that take some hundredths, rarely a tick. Who was killed comes back soon, and for a while
// some of the others have no way to it yet. It gives the ticks from each kill to the next leader.
func gaps(t *testing.T, seed uint64, voters int, eager bool) (out []float64) {
	rng := rand.New(rand.NewPCG(seed, 0x6a9))
	c := &cluster{rng: rng}
	c.plan = plan{
		seed: seed, voters: voters, nodes: voters, electionTick: 10, electionMax: 15, heartbeatTick: 2, preVote: true, checkQuorum: true,
		stepDown: true, noForward: true, quiet: true, eager: eager, maxSize: 1 << 20, inflight: 256, snapshotTimeout: 100,
		asyncOnly: true, tickSpread: 0.001, syncUnits: 60, applyUnits: 20, workEvery: 200,
	}
	c.net = network{c: c, latency: []uint64{10, 100}[rng.IntN(2)], loss: []float64{0, 0.01}[rng.IntN(2)], slowMax: 1}
	c.check = newChecker(c)
	c.birth()
	var write func()
	write = func() {
		c.after(1+c.below(2*c.plan.workEvery), rankOther, "write", 0, write)
		if lead := c.leader(); lead != nil {
			c.propose(lead)
			lead.drain()
		}
	}
	write()
	wait := func(ticks uint64, done func() bool) bool {
		for end := c.now + ticks*tickUnits; c.now < end && c.step(); {
			if done() {
				return true
			}
		}
		return false
	}
	never := func() bool { return false }
	led := func() bool { return c.leader() != nil }
	wait(200, led)
	for range gapKills {
		wait(2+c.below(20), never)
		old := c.leader()
		if old == nil {
			wait(200, led)
			continue
		}
		killed := c.now
		old.crash()
		if !wait(400, led) {
			t.Fatalf("seed %d: no leader for 400 ticks: %v", seed, c.err)
		}
		out = append(out, float64(c.now-killed)/tickUnits)
		wait(1+c.below(5), never)
		old.start()
		for from := range c.net.cut {
			if c.chance(0.5) {
				c.net.cut[from][old.id] = true
				c.after(c.below(20*tickUnits), rankOther, "linked", old.id, func() { c.net.cut[from][old.id] = false })
			}
		}
	}
	if c.err != nil {
		t.Fatalf("seed %d: %v", seed, c.err)
	}
	return out
}

// After a kill of the leader an eager cluster has the next one within three election timeouts: 1.85 was the longest of 820 kills of three
// voters, 1.42 of five, where the same kills without eagerness took up to 2.80 and 2.63 (99 %: 1.64, 1.31; 2.50, 2.00).
func TestLeaderGap(t *testing.T) {
	base := uint64(time.Now().UnixNano()) >> 10
	if seed, ok := oneSeed(t); ok {
		base = seed
	}
	runs := uint64(*seedsFlag)/60 + 1
	t.Logf("seeds %d to %d", base, base+runs-1)
	for _, voters := range []int{3, 5} {
		var all [2][]float64
		for seed := base; seed < base+runs; seed++ {
			for i := range all {
				all[i] = append(all[i], gaps(t, seed, voters, i == 1)...)
			}
		}
		for i, g := range all {
			slices.Sort(g)
			at := func(q float64) float64 { return g[int(q*float64(len(g)-1))] / 10 }
			t.Logf("%d voters, eager %v: %d kills, election timeouts to a leader: median %.2f, 99 %% %.2f, 99.9 %% %.2f, longest %.2f",
				voters, i == 1, len(g), at(0.5), at(0.99), at(0.999), at(1))
			if i == 1 && at(1) > 3 {
				t.Errorf("a kill cost %.2f election timeouts, want 3 at most", at(1))
			}
		}
	}
}
