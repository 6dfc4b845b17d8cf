package sim

import (
	"fmt"
	"testing"
)

// Half of all acknowledgements are lost, and leaders are killed, while a producer appends: every record is there exactly once, at the
// offset that it was acknowledged with in the end, in the order given.
func TestSimAcknowledgementsLost(t *testing.T) {
	lost := 0
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		w.opts.AnswerLossPercent = 50
		p := w.NewProducer()
		const total = 600
		drive(w, p, "p", total)
		kills := true
		var kill func()
		kill = func() {
			if !kills {
				return
			}
			part := &topic.Partitions[w.rng.IntN(len(topic.Partitions))]
			if l := w.Leader(part); l != 0 {
				w.Node(l).Crash()
				w.After(w.between(500e6, 3e9), func() { boot(t, w, l, seed) })
			}
			w.After(w.between(3e9, 8e9), kill)
		}
		w.After(200e6, kill)
		if !w.RunUntil(600e9, func() bool { return p.Waiting() == 0 && len(p.Sent) == total }) {
			failure(t, w, seed, "%d of %d records have no result after 600 s of simulated time", p.Waiting(), total)
		}
		kills = false
		lost += w.Counts.Faults["acknowledgement lost"]
		w.opts.AnswerLossPercent = 0
		w.RunFor(20e9)
		var first []Read
		for node := range w.nodes {
			c := w.NewConsumer(topic.Name, uint64(node+1))
			if !w.RunUntil(120e9, c.Done) || c.Err != nil {
				failure(t, w, seed, "consumer of node %d: done %t, %v", node+1, c.Done(), c.Err)
			}
			got := byPartition(c.Read, len(topic.Partitions))
			if node == 0 {
				first = got
				checkReads(t, w, seed, []*Producer{p}, got)
			} else if fmt.Sprint(got) != fmt.Sprint(first) {
				failure(t, w, seed, "node 1 and node %d return different records", node+1)
			}
		}
	}
	if lost < 10*len(seeds(t)) {
		t.Errorf("%d acknowledgements were lost: too gentle", lost)
	}
	t.Logf("%d acknowledgements lost", lost)
}
