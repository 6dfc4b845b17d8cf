package rpc

import (
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/record"
)

// sealed is a batch of n records with such values, at an offset.
func sealed(t *testing.T, codec record.Codec, offset int64, n, valueBytes int) []byte {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{Codec: codec, ProducerID: -1})
	for range n {
		if err := b.Append(record.Record{Value: make([]byte, valueBytes)}); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(offset, 1)
	return batch
}

// Plain records take as much memory as their bound and the broker's budget leave: an answer ends before the batch that would be too much,
// a single batch that is too much is refused with the fix, and what is held is counted to the byte and given back by who sends it.
func TestPlainRecordsAreBounded(t *testing.T) {
	env := &Env{Answers: NewBudget(100 << 20)}
	f := fetching{plainRecords: true}
	out := &pb.FetchResponse{}
	held, err := f.plain(env, [][]byte{sealed(t, record.CodecZstd, 0, 10, 100)}, out)
	if err != nil || len(out.Records) != 10 || held != 10*(plainRecordBytes+100) || env.Answers.Used() != int64(held) {
		t.Errorf("10 records hold %d, the budget says %d: %v", held, env.Answers.Used(), err)
	}
	env.Answers.Give(held)

	large := [][]byte{}
	for i := range 6 { // 15 MiB each, in a few KiB: four of them fit into one answer
		large = append(large, sealed(t, record.CodecZstd, int64(10*i), 10, 3<<19))
	}
	out = &pb.FetchResponse{NextOffset: 60}
	held, err = f.plain(env, large, out)
	if err != nil || len(out.Records) != 40 || out.NextOffset != 40 || env.Answers.Used() != int64(held) {
		t.Errorf("%d records, next offset %d, %d held of %d: %v; want 40 and 40", len(out.Records), out.NextOffset, held, env.Answers.Used(), err)
	}
	next := &pb.FetchResponse{NextOffset: 60}
	if more, err := f.plain(env, large[4:], next); err == nil && len(next.Records) == 20 {
		if env.Answers.Used() != int64(held+more) {
			t.Errorf("%d are used, %d and %d are held", env.Answers.Used(), held, more)
		}
		env.Answers.Give(more)
	} else {
		t.Errorf("the next two, which the budget has room for: %d records, %v", len(next.Records), err)
	}
	if _, err := f.plain(&Env{Answers: env.Answers}, large, &pb.FetchResponse{}); err != nil { // 60 of 100 MiB are held: two fit
		t.Errorf("with some room: %v", err)
	}
	full := NewBudget(1)
	full.take(1)
	if _, err := f.plain(&Env{Answers: full}, large, &pb.FetchResponse{}); err == nil || err.Reason != partition.ReasonOverloaded || full.Used() != 1 {
		t.Errorf("without any room: %v, %d used", err, full.Used())
	}

	fresh := NewBudget(1 << 30)
	for name, batch := range map[string][]byte{
		"inflates too far":  sealed(t, record.CodecZstd, 0, 2, 9<<20),
		"too many records":  sealed(t, record.CodecZstd, 0, 450_000, 0),
		"many small, plain": sealed(t, record.CodecNone, 0, 450_000, 0),
	} {
		if held, err := f.plain(&Env{Answers: fresh}, [][]byte{batch}, &pb.FetchResponse{}); err == nil || held != 0 || fresh.Used() != 0 {
			t.Errorf("%s: %d held, %d used, %v", name, held, fresh.Used(), err)
		}
	}
}
