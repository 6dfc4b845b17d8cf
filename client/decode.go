package client

import (
	"slices"
	"sync"

	"lograft/client/core"
	"lograft/internal/buffers"
	"lograft/record"
)

// decodeAheadMax bounds the answers that are decoded before Poll asks for them: what is compressed is bounded by BufferBytes, what is
// not by this.
const decodeAheadMax = 4

// releasedBytesMax bounds the memory of released batches that a consumer keeps for batches to come.
const releasedBytesMax = 32 << 20

// fetched is one answer on its way to Poll.
type fetched struct {
	core.Fetched
	memory  *buffers.Pool // for what is inflated
	claimed bool          // a goroutine of its own decodes it; guarded by Consumer.mu
	done    chan struct{}
	batch   *Batch
	err     error
}

// decodeAhead starts to decode the next answers beside Poll and the network. It is called with mu held.
func (k *Consumer) decodeAhead() {
	for _, f := range k.fetched {
		if k.closed || k.ahead >= decodeAheadMax {
			return
		}
		if f.claimed {
			continue
		}
		f.claimed = true
		k.ahead++
		k.reader.calls.Go(func() { // ends with this one answer
			f.decode()
			close(f.done)
		})
	}
}

// recordsRoomMax bounds the room made for records on a batch's word for how many it holds.
const recordsRoomMax = 64 << 10

// recordLists are lists of records of batches that were released, empty.
var recordLists = sync.Pool{New: func() any { return new([]Fetched) }}

// Release gives the batch's memory back, for batches to come: Records, their keys, values and headers must not be looked at from then on.
// It is for programs that read much and keep nothing of it; nobody has to call it. A second call does nothing.
func (b *Batch) Release() {
	if b.lent == nil {
		return
	}
	b.lent.Free() // panics if a copy of this batch was released, before any harm is done
	clear(b.Records)
	*b.list = b.Records[:0]
	recordLists.Put(b.list)
	b.Records, b.list, b.lent = nil, nil, nil
}

// decode gives the records that count.
func (f *fetched) decode() {
	out := &Batch{Topic: f.Topic, Partition: f.Partition, NextOffset: f.NextOffset(), HighWatermark: f.HighWatermark, LogStart: f.LogStart,
		list: recordLists.Get().(*[]Fetched), lent: f.memory.Lend()}
	f.batch = out
	count := 0
	for _, raw := range f.Batches {
		count += int(record.Batch(raw).RecordsCount())
	}
	out.Records = slices.Grow(*out.list, min(max(count, 0), recordsRoomMax))
	for _, raw := range f.Batches {
		b := record.Batch(raw)
		epoch := b.LeaderEpoch()
		for r, err := range b.Iterate(record.Limits{Room: out.lent.Get}) {
			if err != nil {
				f.err = err
				return
			}
			if r.Offset < f.From || f.Stop >= 0 && r.Offset >= f.Stop {
				continue
			}
			out.Records = append(out.Records, Fetched{Topic: f.Topic, Partition: f.Partition, Offset: r.Offset, LeaderEpoch: epoch,
				Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: r.Headers})
		}
	}
}
