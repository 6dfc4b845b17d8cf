package rpc

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/internal/buffers"
	"lograft/record"
)

// Bounds of plain records: a batch of a few KiB may inflate to a thousand times that, and a record of seven bytes on the wire takes twenty
// times that as a message of its own.
const (
	recordsInflatedMax = 16 << 20 // of one batch
	plainBatchMax      = 64 << 20 // of one batch in memory, counted by plainBatch
	plainAnswerMax     = 16 << 20 // of one answer, if it is more than one batch
	plainBytesMin      = 16 << 20 // of all answers: a quarter of the budget of answers, or this
	plainIdleMax       = 32 << 20 // of memory kept for the next ones
	plainRecordBytes   = 160      // a pb.Record and its pointer
	plainHeaderBytes   = 80

	// What inflates to more than inflateSmallBytes is inflated one batch at a time; the others a few at a time. The rest waits (laneWaitsMax).
	inflateSmallBytes = 1 << 20
	inflateSmallRatio = 64 // to which more than good batches shrink
	inflateSmallMax   = 4
)

// Plain bounds what a broker spends on plain records, for all of its clients: the memory that they hold until gRPC has let go of them,
// which is used again, and how many batches are inflated at a time. It is safe for concurrent use.
type Plain struct {
	budget       *Budget
	memory       *buffers.Pool // nil: all memory is fresh
	small, large *lane         // nil: no bound
}

// NewPlain makes the bounds of plain records within a budget of answers.
func NewPlain(answers *Budget) *Plain {
	share := max(answers.max/4, plainBytesMin)
	return &Plain{budget: &Budget{max: share, within: answers}, memory: buffers.NewPool(plainIdleMax), small: newLane(inflateSmallMax), large: newLane(1)}
}

// Used is what plain records hold now, bytes.
func (p *Plain) Used() int64 { return p.budget.Used() }

// plain is Env.Plain, or what stands for it.
func (e *Env) plain() *Plain {
	if e.Plain != nil {
		return e.Plain
	}
	return &Plain{budget: e.Answers}
}

func inflateBusy() *partition.Error {
	return &partition.Error{Reason: partition.ReasonOverloaded, RetryAfterMs: overloadedRetryMs,
		Message: fmt.Sprintf("%d batches of yours wait to be inflated for plain records: retry, or fetch batches instead", laneWaitsMax)}
}

// inflated calls use with the records of a batch without their compression, in memory that is another's afterwards. It waits for its turn.
func (p *Plain) inflated(a asker, b record.Batch, use func(raw []byte) *partition.Error) *partition.Error {
	if b.Codec() == record.CodecNone {
		return use(b.Records())
	}
	refused, err := p.inflateSmall(a, b, use)
	if errors.Is(err, record.ErrTooLarge) {
		refused, err = p.inflateLarge(a, b, use)
	}
	if err != nil {
		return notPlain(err)
	}
	return refused
}

func (p *Plain) inflateSmall(a asker, b record.Batch, use func([]byte) *partition.Error) (refused *partition.Error, err error) {
	if !p.small.enter(a) {
		return inflateBusy(), nil
	}
	defer p.small.leave()
	lent := p.memory.Lend()
	defer lent.Free()
	raw, err := b.Inflate(lent.Get(min(inflateSmallBytes, inflateSmallRatio*len(b))))
	if err != nil {
		return nil, err
	}
	return use(raw), nil
}

func (p *Plain) inflateLarge(a asker, b record.Batch, use func([]byte) *partition.Error) (refused *partition.Error, err error) {
	if !p.large.enter(a) {
		return inflateBusy(), nil
	}
	defer p.large.leave()
	lent := p.memory.Lend()
	defer lent.Free()
	raw, err := b.Inflate(lent.Get(recordsInflatedMax))
	if err != nil {
		return nil, err
	}
	return use(raw), nil
}

// notPlain is the refusal of a batch that can't be inflated or decoded within the bounds.
func notPlain(err error) *partition.Error {
	return &partition.Error{Reason: partition.ReasonCorrupt, Message: err.Error() + ": fetch batches instead of plain records"}
}

// plainHeld is what plain records hold: bytes of the budget, and the memory that they are in.
type plainHeld struct {
	bytes int
	lent  *buffers.Loan
}

// send sends an answer with what it holds: its own memory, or that of the reply that it is made of.
func (h *plainHeld) send(eff *Effects, m proto.Message, r *partition.Reply) {
	if h.lent == nil {
		eff.sendLent(m, r)
		return
	}
	eff.lend(m, h.lent)
	eff.Held += h.bytes
}

// plain turns batches into records, as many batches as there is room for, at least one. What they take is added to held; who sends them
// gives it back (Effects.Held).
func (f *fetching) plain(env *Env, batches [][]byte, out *pb.FetchResponse, held *plainHeld) (refused *partition.Error) {
	room := plainBatchMax
	for i, raw := range batches {
		b, from := record.Batch(raw), len(out.Records)
		cost, err := f.plainBatch(env, b, room, out, held)
		if err != nil {
			out.Records = out.Records[:from]
			if i == 0 {
				return err
			}
			out.NextOffset = max(b.BaseOffset(), f.offset) // the next fetch begins with it, and is told why if that fails, too
			break
		}
		if i == 0 {
			room = plainAnswerMax
		}
		room -= cost
	}
	return nil
}

// plainBatch adds the records of one batch to out. What they will take is known, and taken of the budget, before any of it is allocated.
func (f *fetching) plainBatch(env *Env, b record.Batch, room int, out *pb.FetchResponse, held *plainHeld) (cost int, refused *partition.Error) {
	p, limits := env.plain(), record.Limits{DecompressedBytesMax: recordsInflatedMax}
	var body []byte
	refused = p.inflated(env.asker, b, func(raw []byte) *partition.Error {
		headers, err := b.Headers(raw, limits)
		if err != nil {
			return notPlain(err)
		}
		cost = buffers.Takes(len(raw)) + plainRecordBytes*int(b.RecordsCount()) + plainHeaderBytes*headers
		switch {
		case cost > room:
			return &partition.Error{Reason: partition.ReasonTooLarge, Message: "the records of one batch take more memory than plain records may: fetch batches instead"}
		case !p.budget.take(cost):
			return overloaded(p.budget, "plain records")
		}
		held.bytes += cost
		if held.lent == nil {
			held.lent = p.memory.Lend()
		}
		body = held.lent.Get(len(raw))
		copy(body, raw)
		return nil
	})
	if refused != nil {
		return 0, refused
	}
	for rec := range b.Decode(body, limits) { // without an error: Headers has read it all
		if rec.Offset >= f.offset {
			out.Records = append(out.Records, toRecord(&rec))
		}
	}
	return cost, nil
}

func toRecord(r *record.Record) *pb.Record {
	out := &pb.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Offset: r.Offset}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, &pb.Header{Key: h.Key, Value: h.Value})
	}
	return out
}
