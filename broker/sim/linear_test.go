package sim

import (
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// prober asks random replicas where a partition ends, linearizably, and holds each answer against everything that had ended before
// the question was asked: acknowledged appends and earlier answers. For a log that only grows this is all that linearizability says
// about its end.
type prober struct {
	w     *World
	part  *cluster.Partition
	acked *int64 // next offset after the highest acknowledged one
	seen  int64  // highest end answered so far
	// outcomes
	answered, refused int
	stale             []string
}

func (p *prober) run() {
	n := p.w.Node(1 + uint64(p.w.rng.IntN(len(p.w.nodes))))
	floor, asked := max(*p.acked, p.seen), p.w.now
	if n.up {
		op := partition.Request{Op: partition.OpListOffset, Group: p.part.Group, Which: partition.LatestOffset, Deadline: p.w.now + 3e9}
		if p.w.percent(50) { // an empty fetch claims the end too
			op = partition.Request{Op: partition.OpFetch, Group: p.part.Group, Offset: floor, MaxBytes: 1, Deadline: p.w.now + 3e9}
		}
		n.Request(op, func(r partition.Reply) {
			if r.Err != nil && r.Err.Reason != partition.ReasonOutOfRange {
				p.refused++
				return
			}
			p.answered++
			end := r.HighWatermark
			if r.Err != nil {
				end = r.Err.HighWatermark
			}
			if end < floor {
				p.w.Log("STALE: node %d answered end %d, asked at %d when %d was certain", n.id, end, asked/1e6, floor)
				p.stale = append(p.stale, p.w.lines[len(p.w.lines)-1])
			}
			p.seen = max(p.seen, end)
		})
	}
	p.w.After(p.w.between(1e6, 60e6), p.run)
}

// Linearizable reads on any replica reflect every append acknowledged before they began, and never go back, while brokers lose power,
// links break one way and clocks differ.
func TestSimLinearizableEnds(t *testing.T) {
	answered := 0
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		writers := startWriters(w, topic, 300)
		var probers []*prober
		for i := range topic.Partitions {
			part := &topic.Partitions[i]
			acked := new(int64)
			for _, p := range writers {
				if p.part.Group == part.Group {
					p.onAck = func(a ack) { *acked = max(*acked, a.offset+1) }
				}
			}
			for range 3 {
				p := &prober{w: w, part: part, acked: acked}
				probers = append(probers, p)
				p.run()
			}
		}
		hurtFor(t, w, seed, 30e9)
		finishWriters(t, w, seed, writers)
		w.RunFor(5e9)
		for _, p := range probers {
			answered += p.answered
			if len(p.stale) > 0 {
				failure(t, w, seed, "%d stale answers, the first: %s", len(p.stale), p.stale[0])
			}
		}
	}
	if answered < 50*len(seeds(t)) {
		t.Errorf("only %d answers: too gentle", answered)
	}
	t.Logf("%d linearizable answers", answered)
}
