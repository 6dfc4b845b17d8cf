package sim

import (
	"encoding/binary"
	"fmt"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/record"
)

// Request hands a request to a broker as one of its sessions would; done gets the one reply, unless the broker dies or the answer is lost.
func (n *Node) Request(q partition.Request, done func(partition.Reply)) {
	if !n.up {
		return
	}
	inc, id := n.incarnation, n.nextSession
	n.nextSession++
	q.From = id
	n.replies[id] = func(r partition.Reply) {
		delete(n.replies, id)
		if n.w.percent(n.w.opts.AnswerLossPercent) {
			n.w.Counts.Faults["answer lost"]++
			return
		}
		n.w.After(n.w.netDelay(), func() { done(r) })
	}
	n.after(inc, n.w.netDelay(), func() { n.postGroup(q.Group, requestEvent(q)) })
}

// ack is an acknowledged record: what the checkers hold the brokers to.
type ack struct {
	value  uint64
	offset int64
}

// Writer is an idempotent producer of one partition with one batch in flight. It numbers its records 1, 2, 3...
type Writer struct {
	w       *World
	topic   *cluster.Topic
	part    *cluster.Partition
	id      int64
	limit   uint64 // stops after this value
	next    uint64 // value of the first record of the batch in flight
	seq     int32
	count   int
	attempt int
	target  uint64
	Acked   []ack
	Unknown []uint64 // values whose outcome was left open when the run ended
	stopped bool
	onAck   func(ack)
}

// NewWriter makes a writer; Start sends its first batch.
func (w *World) NewWriter(id int64, t *cluster.Topic, part int, limit uint64) *Writer {
	return &Writer{w: w, topic: t, part: &t.Partitions[part], id: id, limit: limit, next: 1, target: 1 + uint64(w.rng.IntN(len(w.nodes)))}
}

// Done reports whether every record was acknowledged.
func (p *Writer) Done() bool { return p.next > p.limit }

// Start begins.
func (p *Writer) Start() { p.send() }

// writerTimeout is how long a writer waits for an answer before it sends the same batch elsewhere.
const writerTimeout = 3e9

func (p *Writer) send() {
	if p.Done() || p.stopped {
		return
	}
	if p.attempt == 0 {
		p.count = 1 + p.w.rng.IntN(4)
		p.count = int(min(uint64(p.count), p.limit-p.next+1))
	}
	p.attempt++
	attempt, first := p.attempt, p.next
	n := p.w.Node(p.target)
	n.Request(partition.Request{Op: partition.OpProduce, Group: p.part.Group, Batch: p.batch(), ExpectedOffset: partition.NoExpectedOffset,
		Deadline: p.w.now + writerTimeout}, func(r partition.Reply) {
		if attempt == p.attempt && first == p.next {
			p.answer(r)
		}
	})
	p.w.After(writerTimeout, func() {
		if attempt == p.attempt && first == p.next {
			p.retry(0)
		}
	})
}

func (p *Writer) batch() record.Batch {
	b := record.NewBuilder(record.BuilderOptions{BytesMax: 1 << 20, ProducerID: p.id, ProducerEpoch: 0, BaseSequence: p.seq})
	for i := range p.count {
		if err := b.Append(record.Record{Timestamp: p.w.now / 1e6, Key: binary.BigEndian.AppendUint64(nil, uint64(p.id)), Value: value(p.id, p.next+uint64(i))}); err != nil {
			panic(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return batch
}

func value(id int64, v uint64) []byte { return fmt.Appendf(nil, "%d/%d", id, v) }

func (p *Writer) answer(r partition.Reply) {
	if r.Err != nil {
		switch r.Err.Reason {
		case partition.ReasonSequenceGap, partition.ReasonFenced, partition.ReasonExpectedOffset, partition.ReasonInternal:
			panic(fmt.Sprintf("writer %d, value %d: %v", p.id, p.next, r.Err))
		}
		p.retry(r.Err.LeaderNode)
		return
	}
	for i := range p.count {
		a := ack{value: p.next + uint64(i), offset: r.BaseOffset + int64(i)}
		p.Acked = append(p.Acked, a)
		if p.onAck != nil {
			p.onAck(a)
		}
	}
	p.seq = record.IncrementSequence(p.seq, int32(p.count))
	p.next += uint64(p.count)
	p.attempt = 0
	p.w.After(p.w.between(0, 2e6), p.send)
}

func (p *Writer) retry(hint uint64) {
	if hint == 0 {
		hint = p.part.Replicas[p.w.rng.IntN(len(p.part.Replicas))].NodeID
	}
	p.target = hint
	p.attempt++ // answers to the earlier attempt are late from here on
	p.w.After(p.w.between(1e6, 50e6), p.send)
}

// got is one record as a reader saw it.
type got struct {
	offset int64
	value  string
}

// ReadAll reads a partition from its log start to its linearizable end on one broker, within d ns.
func (w *World) ReadAll(node uint64, part *cluster.Partition, d int64) ([]got, error) {
	return w.ReadFrom(node, part, 0, d)
}

// ReadFrom is ReadAll from an offset on.
func (w *World) ReadFrom(node uint64, part *cluster.Partition, from, d int64) ([]got, error) {
	var all []got
	var failure error
	finished := false
	var fetch func(offset int64)
	fetch = func(offset int64) {
		w.Node(node).Request(partition.Request{Op: partition.OpFetch, Group: part.Group, Offset: offset, MaxBytes: 4096, Deadline: w.now + d}, func(r partition.Reply) {
			switch {
			case r.Err != nil && r.Err.Reason == partition.ReasonOutOfRange && offset < r.Err.LogStart:
				all = nil // given up meanwhile
				fetch(r.Err.LogStart)
			case r.Err != nil:
				failure, finished = r.Err, true
			case len(r.Batches) == 0:
				finished = true
			default:
				next := offset
				for _, b := range r.Batches {
					if next, failure = collect(&all, record.Batch(b), offset); failure != nil {
						finished = true
						return
					}
				}
				fetch(next)
			}
		})
	}
	fetch(from)
	if !w.RunUntil(d, func() bool { return finished }) {
		return all, fmt.Errorf("node %d did not answer within %d ms", node, d/1e6)
	}
	return all, failure
}

func collect(all *[]got, b record.Batch, from int64) (int64, error) {
	if err := b.CheckCRC(); err != nil {
		return 0, err
	}
	for r, err := range b.Iterate(record.Limits{}) {
		if err != nil {
			return 0, err
		}
		if r.Offset >= from {
			*all = append(*all, got{r.Offset, string(r.Value)})
		}
	}
	return b.NextOffset(), nil
}
