package sim

import (
	"fmt"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/broker/sim/check"
	"lograft/record"
)

// singles is a client without a producer id that sends each record once, some of them with a condition.
type singles struct {
	name    string
	r       *Run
	stopped bool
	given   int
	ends    map[int32]int64 // where it believes that partitions end
}

func newSingles(i int) *singles {
	return &singles{name: fmt.Sprint("single-", i), ends: map[int32]int64{}}
}

// Start implements Load.
func (l *singles) Start(r *Run) {
	l.r = r
	l.more()
}

func (l *singles) more() {
	if l.stopped {
		return
	}
	r := l.r
	part := r.part()
	expected := int64(noCondition)
	if r.percent(40) {
		expected = l.ends[part.Number]
	}
	l.given++
	a := r.begin(l.name, 0, part.Number, fmt.Sprintf("%s/%d", l.name, l.given), expected)
	r.appendOnce(part, a, func(reply partition.Reply) { l.ends[part.Number] = endOf(reply, l.ends[part.Number]) })
	r.After(r.between(5e6, 500e6), l.more)
}

func endOf(reply partition.Reply, before int64) int64 {
	switch {
	case reply.Err == nil:
		return reply.BaseOffset + 1
	case reply.Err.Reason == partition.ReasonExpectedOffset:
		return reply.Err.HighWatermark
	}
	return before
}

// appendOnce sends the record of a once and notes what became of it.
func (r *Run) appendOnce(part *cluster.Partition, a *check.Append, after func(partition.Reply)) {
	r.append(r.spot(part), part, a.Value, a.Expected, func(reply partition.Reply) {
		switch {
		case reply.Err == nil:
			a.Ack(r.now, reply.BaseOffset)
			r.acked(part.Number)
			if r.percent(20) && a.Offset >= r.History.AskedMax(part.Number) {
				r.stable(part.Number, a.Value)
			}
		case reply.Err.Reason == partition.ReasonExpectedOffset:
			a.Fail(r.now, reply.Err.HighWatermark)
		case reply.Err.Outcome == partition.OutcomeFailed:
			a.Fail(r.now, -1)
		}
		after(reply)
	})
}

// append sends one record without a producer id to a broker, once.
func (w *World) append(n *Node, part *cluster.Partition, value string, expected int64, done func(partition.Reply)) {
	b := record.NewBuilder(record.BuilderOptions{BytesMax: 1 << 16, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
	if err := b.Append(record.Record{Timestamp: w.now / 1e6, Value: []byte(value)}); err != nil {
		panic(err)
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	if expected < 0 {
		expected = partition.NoExpectedOffset
	}
	n.Request(partition.Request{Op: partition.OpProduce, Group: part.Group, Batch: batch, ExpectedOffset: expected, Deadline: w.now + 2e9}, done)
}

// appendNow sends one record to the leader, if there is one.
func (w *World) appendNow(part *cluster.Partition, value string, done func(partition.Reply)) {
	if l := w.Leader(part); l != 0 {
		w.append(w.Node(l), part, value, noCondition, done)
	}
}

// Stop implements Load.
func (l *singles) Stop() { l.stopped = true }

// Waiting implements Load: an answer that does not come leaves its append open.
func (l *singles) Waiting() string { return "" }

// Check implements Load: the history judges.
func (l *singles) Check(*Run) error { return nil }

// reads asks random replicas in every read mode, and notes what they answered.
type reads struct {
	r       *Run
	name    string
	stopped bool
	// sessions are the tokens of this client: what it saw, and the applied index that shows it.
	sessions map[int32]token
}

type token struct {
	next    int64
	applied uint64
}

func newReads(i int) *reads {
	return &reads{name: fmt.Sprint("reader-", i), sessions: map[int32]token{}}
}

// Start implements Load.
func (l *reads) Start(r *Run) {
	l.r = r
	l.more()
}

func (l *reads) more() {
	if l.stopped {
		return
	}
	part := l.r.part()
	n := l.r.replica(part)
	switch l.r.rng.IntN(6) {
	case 0, 1:
		l.end(n, part)
	case 2:
		l.emptyFetch(n, part)
	case 3:
		l.fetch(n, part, partition.Linearizable)
	case 4:
		l.fetch(n, part, partition.Committed)
	case 5:
		l.session(n, part)
	}
	l.r.After(l.r.between(2e6, 200e6), l.more)
}

func (l *reads) deadline() int64 { return l.r.now + 3e9 }

// end asks where a partition ends.
func (l *reads) end(n *Node, part *cluster.Partition) {
	call := l.r.now
	n.Request(partition.Request{Op: partition.OpListOffset, Group: part.Group, Which: partition.LatestOffset, Deadline: l.deadline()}, func(reply partition.Reply) {
		if reply.Err == nil {
			l.r.History.ReadEnd(n.id, part.Number, reply.BaseOffset, call, l.r.now)
			l.saw(part, reply)
		}
	})
}

// emptyFetch asks for what is behind the end that it knows: an empty answer, or a refusal, claims the end.
func (l *reads) emptyFetch(n *Node, part *cluster.Partition) {
	from := l.r.shown(n, part)
	call, offset := l.r.now, l.sessions[part.Number].next+int64(l.r.rng.IntN(3))
	n.Request(partition.Request{Op: partition.OpFetch, Group: part.Group, Offset: offset, MaxBytes: 1, Deadline: l.deadline()}, func(reply partition.Reply) {
		switch {
		case reply.Err == nil && len(reply.Batches) == 0:
			l.r.History.ReadEnd(n.id, part.Number, reply.HighWatermark, call, l.r.now)
			l.saw(part, reply)
		case reply.Err == nil:
			l.took(n, part, offset, reply, call, from)
		case reply.Err.Reason == partition.ReasonOutOfRange && offset > reply.Err.HighWatermark:
			l.r.History.ReadEnd(n.id, part.Number, reply.Err.HighWatermark, call, l.r.now)
		}
	})
}

// fetch reads at a random offset.
func (l *reads) fetch(n *Node, part *cluster.Partition, mode partition.Consistency) {
	begins, from := l.r.History.Begins(part.Number), l.r.shown(n, part)
	if l.r.percent(20) {
		begins = 0 // perhaps given up
	}
	call, offset := l.r.now, begins+l.r.rng.Int64N(max(0, l.sessions[part.Number].next-begins)+1)
	n.Request(partition.Request{Op: partition.OpFetch, Group: part.Group, Offset: offset, MaxBytes: 1 + l.r.rng.IntN(2000), Consistency: mode, Deadline: l.deadline()}, func(reply partition.Reply) {
		switch {
		case reply.Err == nil && len(reply.Batches) > 0:
			l.took(n, part, offset, reply, call, from)
		case reply.Err != nil && reply.Err.Reason == partition.ReasonOutOfRange && offset < reply.Err.LogStart:
			l.r.start(n, part, reply.Err.LogStart, from)
		}
	})
}

// took notes the records of an answer; from is the log start that the node had shown before. A record that is returned was committed, in every mode.
func (l *reads) took(n *Node, part *cluster.Partition, offset int64, reply partition.Reply, call int64, from shownStart) {
	var all []got
	for _, b := range reply.Batches {
		if _, err := collect(&all, record.Batch(b), offset); err != nil {
			l.r.Break("node %d returned damaged records of partition %d: %v", n.id, part.Number, err)
			return
		}
	}
	if len(all) == 0 || all[0].offset != offset {
		l.r.Break("node %d was asked for %d:%d and returned %v", n.id, part.Number, offset, all)
		return
	}
	l.r.start(n, part, reply.LogStart, from)
	for i, g := range all {
		if i == 0 {
			l.r.History.ReadAt(n.id, part.Number, g.offset, g.value, call, l.r.now)
			continue
		}
		l.r.History.Saw(n.id, part.Number, g.offset, g.value)
	}
}

// saw keeps the newest session token.
func (l *reads) saw(part *cluster.Partition, reply partition.Reply) {
	if s := l.sessions[part.Number]; reply.Applied > s.applied {
		l.sessions[part.Number] = token{next: reply.HighWatermark, applied: reply.Applied}
	}
}

// session asks a replica for at least what this client knows of.
func (l *reads) session(n *Node, part *cluster.Partition) {
	s := l.sessions[part.Number]
	q := partition.Request{Op: partition.OpListOffset, Group: part.Group, Which: partition.LatestOffset, Consistency: partition.Session, Session: s.applied, Deadline: l.deadline()}
	n.Request(q, func(reply partition.Reply) {
		if reply.Err == nil {
			l.r.History.Session(n.id, part.Number, s.next, reply.HighWatermark)
			l.saw(part, reply)
		}
	})
}

// Stop implements Load.
func (l *reads) Stop() { l.stopped = true }

// Waiting implements Load.
func (l *reads) Waiting() string { return "" }

// Check implements Load: the history judges.
func (l *reads) Check(*Run) error { return nil }
