package partition

import (
	"encoding/binary"
	"errors"
	"slices"

	"lograft/record"
)

// batchesKept is how many batches per producer a partition remembers: Kafka's number, and the most that a client may have in
// flight (notes/kafka.md §1).
const batchesKept = 5

// producersMax bounds the table of one partition (architecture D15).
const producersMax = 10_000

// sequenced is one remembered batch of an idempotent producer.
type sequenced struct {
	first, last int32 // sequence numbers, inclusive; they wrap mod 2^31
	offset      int64 // base offset that it got
	appendTime  int64 // ms
	index       uint64
}

// producer is the replicated state of one producer id in one partition.
type producer struct {
	epoch   int16
	batches []sequenced // oldest first, at most batchesKept; never empty
	// released: its client closed it. It appends again only if an old copy of a batch, or the client itself, comes back.
	released bool
}

func (p *producer) last() sequenced { return p.batches[len(p.batches)-1] }

func (p *producer) find(first, last int32) (sequenced, bool) {
	for _, b := range p.batches {
		if b.first == first && b.last == last {
			return b, true
		}
	}
	return sequenced{}, false
}

func (p *producer) push(s sequenced) {
	if len(p.batches) == batchesKept {
		copy(p.batches, p.batches[1:])
		p.batches = p.batches[:batchesKept-1]
	}
	p.batches = append(p.batches, s)
}

// producers is a table of producers: the applied one (replicated, part of every checkpoint) or the leader's view with the
// batches that it has in flight.
type producers map[int64]*producer

// apply remembers a batch that the log holds. It is a function of the batch header alone, so every replica has the same table.
func (t producers) apply(b record.Batch, index uint64, appendTime int64) {
	id := b.ProducerID()
	if id < 0 {
		return
	}
	p := t[id]
	if p == nil {
		p = &producer{}
		t[id] = p
	}
	if p.epoch != b.ProducerEpoch() || len(p.batches) == 0 {
		p.epoch, p.batches = b.ProducerEpoch(), p.batches[:0]
	}
	p.released = false
	p.push(sequenced{first: b.BaseSequence(), last: b.LastSequence(), offset: b.BaseOffset(), appendTime: appendTime, index: index})
}

// verdict is what the table says of a batch that wants to be appended.
type verdict uint8

const (
	verdictAppend verdict = iota
	verdictDuplicate
	verdictFenced // a newer epoch has written
	verdictGap    // sequence numbers are missing, or the batch is older than what is remembered
)

// judge applies Kafka's rules for idempotent producers (notes/kafka.md §1). For verdictDuplicate it returns the original batch.
func (t producers) judge(b record.Batch) (verdict, sequenced) {
	p := t[b.ProducerID()]
	if p == nil {
		// Never seen here, or forgotten. Kafka takes any sequence then; but a producer whose first batch was refused (NOT_READY) and
		// whose second arrived a moment later would have them in the wrong order. Ids are ours and begin at 0 (docs/decisions.md).
		if b.BaseSequence() != 0 {
			return verdictGap, sequenced{}
		}
		return verdictAppend, sequenced{}
	}
	switch epoch := b.ProducerEpoch(); {
	case epoch < p.epoch:
		return verdictFenced, sequenced{}
	case epoch > p.epoch:
		if b.BaseSequence() != 0 {
			return verdictGap, sequenced{}
		}
		return verdictAppend, sequenced{}
	}
	if s, ok := p.find(b.BaseSequence(), b.LastSequence()); ok {
		return verdictDuplicate, s
	}
	if b.BaseSequence() == record.IncrementSequence(p.last().last, 1) {
		return verdictAppend, sequenced{}
	}
	return verdictGap, sequenced{}
}

func (t producers) clone() producers {
	c := make(producers, len(t))
	for id, p := range t {
		c[id] = &producer{epoch: p.epoch, released: p.released, batches: append(make([]sequenced, 0, batchesKept), p.batches...)}
	}
	return c
}

// encode appends the table in order of producer id: equal tables have equal bytes.
//
//	count u32 | per producer: id i64, epoch i16, n u8, released u8 | per batch: first i32, last i32, offset i64, time i64, index u64
func (t producers) encode(dst []byte) []byte {
	ids := make([]int64, 0, len(t))
	for id := range t {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(len(ids)))
	for _, id := range ids {
		p := t[id]
		dst = le.AppendUint64(dst, uint64(id))
		dst = le.AppendUint16(dst, uint16(p.epoch))
		released := byte(0)
		if p.released {
			released = 1
		}
		dst = append(dst, byte(len(p.batches)), released)
		for _, b := range p.batches {
			dst = le.AppendUint32(dst, uint32(b.first))
			dst = le.AppendUint32(dst, uint32(b.last))
			dst = le.AppendUint64(dst, uint64(b.offset))
			dst = le.AppendUint64(dst, uint64(b.appendTime))
			dst = le.AppendUint64(dst, b.index)
		}
	}
	return dst
}

var errShortTable = errors.New("producer table: bytes end too early")

const (
	producerBytes  = 8 + 2 + 1 + 1
	sequencedBytes = 4 + 4 + 8 + 8 + 8
)

// decodeProducers reads a table from the front of b and returns the rest. Counts are checked against the bytes left.
func decodeProducers(b []byte) (producers, []byte, error) {
	le := binary.LittleEndian
	if len(b) < 4 {
		return nil, nil, errShortTable
	}
	n := int(le.Uint32(b))
	b = b[4:]
	if n > producersMax || n*producerBytes > len(b) {
		return nil, nil, errShortTable
	}
	t := make(producers, n)
	for range n {
		if len(b) < producerBytes {
			return nil, nil, errShortTable
		}
		id, p, count := int64(le.Uint64(b)), &producer{epoch: int16(le.Uint16(b[8:])), released: b[11] == 1}, int(b[10])
		b = b[producerBytes:]
		if count == 0 || count > batchesKept || len(b) < count*sequencedBytes {
			return nil, nil, errShortTable
		}
		p.batches = make([]sequenced, 0, batchesKept)
		for range count {
			p.batches = append(p.batches, sequenced{
				first: int32(le.Uint32(b)), last: int32(le.Uint32(b[4:])), offset: int64(le.Uint64(b[8:])),
				appendTime: int64(le.Uint64(b[16:])), index: le.Uint64(b[24:]),
			})
			b = b[sequencedBytes:]
		}
		t[id] = p
	}
	return t, b, nil
}
