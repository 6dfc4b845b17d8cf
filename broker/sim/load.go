package sim

import (
	"lograft/broker/cluster"
	"lograft/broker/sim/check"
)

// Load is what clients do while the brokers suffer. A new kind is a file with a Load in it and a line in Loads.
type Load interface {
	// Start begins; the load goes on by itself through Run.After until Stop.
	Start(r *Run)
	// Stop says that nothing new may begin.
	Stop()
	// Waiting says what still has no answer, "" if nothing: after everything is well again it must end in bounded time.
	Waiting() string
	// Check judges the load once all is well and every load has ended.
	Check(r *Run) error
}

// Loads are what a run of a seed has.
func Loads(r *Run) []Load {
	loads := []Load{newTopics(), newTrims(), newRetention(), &memberLoad{}}
	for i := range 1 + r.rng.IntN(3) {
		loads = append(loads, newProduce(i))
	}
	for i := range 2 + r.rng.IntN(3) {
		loads = append(loads, newSingles(i))
	}
	for i := range 2 + r.rng.IntN(3) {
		loads = append(loads, newReads(i))
	}
	loads = append(loads, consumers(r)...)
	return append(loads, newGroup())
}

// part is a random partition of the run's topic.
func (r *Run) part() *cluster.Partition {
	return r.current(int32(r.rng.IntN(len(r.Topic.Partitions))))
}

// replica is a random broker that holds a partition.
func (r *Run) replica(p *cluster.Partition) *Node {
	return r.Node(p.Replicas[r.rng.IntN(len(p.Replicas))].NodeID)
}

// spot is a broker to send an append to: mostly the leader, now and then any replica.
func (r *Run) spot(p *cluster.Partition) *Node {
	if l := r.Leader(p); l != 0 && r.percent(85) {
		return r.Node(l)
	}
	return r.replica(p)
}

// noCondition is check.Append.Expected of an append that takes any place.
const noCondition = -1

// begin notes an append of one record.
func (r *Run) begin(client string, seq int, p int32, value string, expected int64) *check.Append {
	return r.History.Begin(check.Append{Client: client, Seq: seq, Partition: p, Value: value, Expected: expected, Call: r.now})
}
