package sim

import (
	"fmt"
	"slices"
	"testing"

	"lograft/broker/partition"
	"lograft/broker/sim/check"
)

// Leaders are killed under load: writes pause for at most 2 election timeouts in the median and, of 100 with -seeds 100, 3 at worst.
func TestSimLeaderKills(t *testing.T) {
	const perSeed = 10
	kills := 20
	if *seedsFlag >= 100 {
		kills = 100
	}
	o := DefaultOptions(0)
	electionTimeout := 10 * o.TickEvery
	var gaps []int64
	for _, seed := range freshSeeds(t, kills/perSeed) {
		w, topic := newCluster(t, DefaultOptions(seed))
		part := &topic.Partitions[0]
		var acks, killed []int64
		sent := 0
		var write func()
		write = func() {
			sent++
			w.appendNow(part, fmt.Sprint(sent), func(r partition.Reply) {
				if r.Err == nil {
					acks = append(acks, w.now)
				}
			})
			w.After(10e6, write)
		}
		write()
		for range perSeed {
			w.RunFor(w.between(4e9, 6e9))
			n := w.Node(w.Leader(part))
			killed = append(killed, w.now)
			n.Kill()
			w.After(3e9, func() { boot(t, w, n.id, seed) })
		}
		w.RunFor(6e9)
		gaps = append(gaps, check.Gaps(killed, slices.Sorted(slices.Values(acks)))...)
	}
	s := check.Statistic(gaps, electionTimeout)
	t.Logf("leader kills: %v", s)
	if s.Median > 2 || kills >= 100 && s.Max > 3 {
		t.Errorf("leader kills: %v", s)
	}
}
