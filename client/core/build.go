package core

import (
	"fmt"

	"lograft/record"
)

// Build is a batch to be compressed. Do may run on any goroutine, beside the producer and other builds; then it is handed back as
// ProducerEvent.Built. Batches are sent in their order whatever the order in which they are built.
type Build struct {
	batch   *batch
	builder *record.Builder
	bytes   record.Batch
	err     error
	counted bool // in Producer.building
}

// Do compresses.
func (b *Build) Do() { b.bytes, b.err = b.builder.Build() }

// newBuilder begins a batch for q in the memory of an earlier one, if there is any to spare.
// batchBytesMax bounds a batch before compression: as the topic says, or by its default while that is not known.
func (t *topic) batchBytesMax() int {
	if t.bytesMax > 0 {
		return t.bytesMax
	}
	return recordBytesMax
}

func (p *Producer) newBuilder(q *partition) *record.Builder {
	o := record.BuilderOptions{Codec: p.opts.Codec, BytesMax: q.topic.batchBytesMax(), ProducerID: 0}
	n := len(p.spare)
	if n == 0 {
		return record.NewBuilder(o)
	}
	b := p.spare[n-1]
	p.spare = p.spare[:n-1]
	b.Reset(o)
	return b
}

// closeOpen ends a partition's open batch. A small one is built at once, a large one by the driver. It gets its number when it is sent
// first.
func (p *Producer) closeOpen(q *partition) {
	b := &Build{batch: q.open, builder: q.builder}
	q.batches = append(q.batches, q.open)
	q.open, q.builder = nil, nil
	q.topic.sticky++
	if b.builder.EstimatedBytes() >= p.opts.BuildBytes {
		b.counted = true
		p.building++
		p.builds = append(p.builds, b)
		return
	}
	b.Do()
	p.built(b)
}

// Building is the number of batches that the driver has not handed back. It takes no more records in while that is much: what they
// wait in is theirs, a batch being built is a copy.
func (p *Producer) Building() int { return p.building }

// built takes a build back. Its batch may have been given up meanwhile.
func (p *Producer) built(b *Build) {
	if b.err != nil {
		panic(fmt.Sprintf("a batch of %d records can't be built: %v", len(b.batch.tags), b.err))
	}
	if n := int(b.bytes.RecordsCount()); n != b.builder.Count() {
		panic(fmt.Sprintf("a batch of %d records was built of %d", n, b.builder.Count()))
	}
	if b.counted {
		p.building--
	}
	b.batch.bytes = b.bytes
	if len(p.spare) < buildersSpareMax {
		p.spare = append(p.spare, b.builder)
	}
}
