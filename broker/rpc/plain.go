package rpc

import (
	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/record"
)

// Bounds of plain records: a batch of a few KiB may inflate to a thousand times that, and a record of seven bytes on the wire takes twenty
// times that as a message of its own.
const (
	recordsInflatedMax = 16 << 20 // of one batch
	plainAnswerMax     = 64 << 20 // of one answer in memory, counted by plainCost
	plainRecordBytes   = 160      // a pb.Record and its pointer
	plainHeaderBytes   = 80
	plainStep          = 1 << 20 // by which the broker's budget is asked for more
)

func plainCost(r *record.Record) int {
	n := plainRecordBytes + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += plainHeaderBytes + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// plain turns batches into records, as many batches as there is room for, at least one. What they take in memory is taken from the budget
// of answers and returned as held; who sends them gives it back (Effects.Held).
func (f *fetching) plain(env *Env, batches [][]byte, out *pb.FetchResponse) (held int, refused *partition.Error) {
	for i, raw := range batches {
		b, from := record.Batch(raw), len(out.Records)
		cost, err := f.plainBatch(env, b, plainAnswerMax-held, out)
		if err != nil {
			out.Records = out.Records[:from]
			if i == 0 {
				return 0, err
			}
			out.NextOffset = max(b.BaseOffset(), f.offset) // the next fetch begins with it, and is told why if that fails, too
			break
		}
		held += cost
	}
	return held, nil
}

func (f *fetching) plainBatch(env *Env, b record.Batch, room int, out *pb.FetchResponse) (cost int, refused *partition.Error) {
	taken := 0
	more := func(n int) bool {
		if !env.Answers.take(n) {
			return false
		}
		taken += n
		return true
	}
	fail := func(err *partition.Error) (int, *partition.Error) {
		env.Answers.give(taken)
		return 0, err
	}
	if b.Codec() != record.CodecNone && !more(recordsInflatedMax) {
		return fail(overloaded(env.Answers, "answers"))
	}
	for rec, err := range b.Iterate(record.Limits{DecompressedBytesMax: recordsInflatedMax}) {
		if err != nil {
			return fail(&partition.Error{Reason: partition.ReasonCorrupt, Message: err.Error() + ": fetch batches instead of plain records"})
		}
		if cost += plainCost(&rec); cost > room {
			return fail(&partition.Error{Reason: partition.ReasonTooLarge, Message: "the records of one batch take more memory than plain records may: fetch batches instead"})
		}
		if cost > taken && !more(max(plainStep, cost-taken)) {
			return fail(overloaded(env.Answers, "answers"))
		}
		if rec.Offset >= f.offset {
			out.Records = append(out.Records, toRecord(&rec))
		}
	}
	env.Answers.give(taken - cost)
	return cost, nil
}

func toRecord(r *record.Record) *pb.Record {
	out := &pb.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Offset: r.Offset}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, &pb.Header{Key: h.Key, Value: h.Value})
	}
	return out
}
