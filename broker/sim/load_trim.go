package sim

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/broker/rpc"
	"lograft/client/core"
)

// trims is an admin that gives up the beginning of partitions. What one of its calls was answered is given up for good; nothing is
// given up that nobody asked for (check.History holds the brokers to the second).
type trims struct {
	r        *Run
	stopped  bool
	promised map[int32]int64 // log start that an answer named
}

func newTrims() *trims { return &trims{promised: map[int32]int64{}} }

// Start implements Load.
func (l *trims) Start(r *Run) {
	l.r = r
	r.After(r.between(1e9, 6e9), l.more)
	l.look()
}

func (l *trims) more() {
	if l.stopped {
		return
	}
	r := l.r
	defer r.After(r.between(500e6, 8e9), l.more)
	n, part := r.some(), r.part()
	if leader := r.Leader(part); leader != 0 && r.percent(80) {
		n = r.Node(leader)
	}
	replica := n.Replica(part.Group)
	if replica == nil {
		return
	}
	number, high := part.Number, replica.HighWatermark()
	before := l.promised[number]
	if room := high - before; room > 0 {
		before += r.rng.Int64N(room/2 + 1)
		if r.percent(5) {
			before = high
		}
	}
	r.History.Asked(number, before)
	req := &pb.TrimPartitionRequest{Partition: &pb.PartitionRef{Topic: r.Topic.Name, Partition: number}, BeforeOffset: before, TimeoutMs: 3000}
	r.call(address(n.id), req, func(e *rpc.Env) rpc.Session { return rpc.NewTrimPartition(e) }, func(out proto.Message, err *core.Error) {
		if err != nil {
			return // some of it may have happened
		}
		start := out.(*pb.TrimPartitionResponse).GetLogStart()
		if start < before {
			r.Break("trim: partition %d: a trim to %d was answered with log start %d", number, before, start)
		}
		if start > l.promised[number] {
			r.Counts.Faults["trim"]++
			r.Log("trim: partition %d begins at %d", number, start)
		}
		l.promised[number] = max(l.promised[number], start)
	})
}

// look asks a random replica where a partition begins, as it knows by itself.
func (l *trims) look() {
	r := l.r
	if r.quit {
		return
	}
	part := r.part()
	n := r.replica(part)
	q := partition.Request{Op: partition.OpListOffset, Group: part.Group, Which: partition.EarliestOffset, Consistency: partition.Committed, Deadline: r.now + 1e9}
	from := r.shown(n, part)
	n.Request(q, func(reply partition.Reply) {
		if reply.Err == nil {
			r.start(n, part, reply.LogStart, from)
		}
	})
	r.After(r.between(10e6, 300e6), l.look)
}

// Stop implements Load.
func (l *trims) Stop() { l.stopped = true }

// Waiting implements Load: a trim without an answer may have happened or not.
func (l *trims) Waiting() string { return "" }

// Check implements Load: at rest every replica begins where the others do, at or behind everything that was promised.
func (l *trims) Check(r *Run) error {
	for i := range r.Topic.Partitions {
		p := r.current(int32(i))
		for _, m := range p.Replicas {
			if start := r.Node(m.NodeID).Replica(p.Group).LogStart(); start < l.promised[p.Number] || start != r.starts[p.Number] {
				return fmt.Errorf("trim: partition %d begins at %d on node %d, %d was promised and another replica begins at %d", p.Number, start, m.NodeID, l.promised[p.Number], r.starts[p.Number])
			}
		}
	}
	return nil
}
