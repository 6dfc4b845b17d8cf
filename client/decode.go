package client

import (
	"lograft/client/core"
	"lograft/record"
)

// decodeAheadMax bounds the answers that are decoded before Poll asks for them: what is compressed is bounded by BufferBytes, what is
// not by this.
const decodeAheadMax = 4

// fetched is one answer on its way to Poll.
type fetched struct {
	core.Fetched
	claimed bool // a goroutine of its own decodes it; guarded by Consumer.mu
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

// decode gives the records that count.
func (f *fetched) decode() {
	out := &Batch{Topic: f.Topic, Partition: f.Partition, NextOffset: f.NextOffset(), HighWatermark: f.HighWatermark, LogStart: f.LogStart}
	f.batch = out
	count := 0
	for _, raw := range f.Batches {
		count += int(record.Batch(raw).RecordsCount())
	}
	out.Records = make([]Fetched, 0, min(max(count, 0), recordsRoomMax))
	for _, raw := range f.Batches {
		b := record.Batch(raw)
		epoch := b.LeaderEpoch()
		for r, err := range b.Iterate(record.Limits{}) {
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
