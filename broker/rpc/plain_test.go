package rpc

import (
	"runtime"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/internal/buffers"
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

// plainOf turns batches into plain records.
func plainOf(env *Env, offset int64, batches [][]byte, out *pb.FetchResponse) (held int, refused *partition.Error) {
	h, f := plainHeld{}, fetching{plainRecords: true, offset: offset}
	refused = f.plain(env, batches, out, &h)
	return h.bytes, refused
}

// Plain records take as much memory as their bound and the broker's budget leave: an answer ends before the batch that would be too much,
// a single batch that is too much is refused with the fix, and what is held is counted to the byte and given back by who sends it.
func TestPlainRecordsAreBounded(t *testing.T) {
	env := &Env{Answers: NewBudget(100 << 20)}
	out := &pb.FetchResponse{}
	held, err := plainOf(env, 0, [][]byte{sealed(t, record.CodecZstd, 0, 10, 100)}, out)
	if err != nil || len(out.Records) != 10 || held < 10*(plainRecordBytes+100) || held > 10*(plainRecordBytes+110) || env.Answers.Used() != int64(held) {
		t.Errorf("10 records hold %d, the budget says %d: %v", held, env.Answers.Used(), err)
	}
	env.GiveHeld(held)

	large := [][]byte{}
	for i := range 6 { // 3 MiB each, in a few hundred bytes: four of them fit into one answer
		large = append(large, sealed(t, record.CodecZstd, int64(10*i), 10, 3<<20/10))
	}
	out = &pb.FetchResponse{NextOffset: 60}
	held, err = plainOf(env, 0, large, out)
	if err != nil || len(out.Records) != 40 || out.NextOffset != 40 || env.Answers.Used() != int64(held) || held > plainAnswerMax {
		t.Errorf("%d records, next offset %d, %d held of %d: %v; want 40 and 40", len(out.Records), out.NextOffset, held, env.Answers.Used(), err)
	}
	next := &pb.FetchResponse{NextOffset: 60}
	if more, err := plainOf(env, 40, large[4:], next); err == nil && len(next.Records) == 20 {
		if env.Answers.Used() != int64(held+more) {
			t.Errorf("%d are used, %d and %d are held", env.Answers.Used(), held, more)
		}
		env.GiveHeld(more)
	} else {
		t.Errorf("the next two, which the budget has room for: %d records, %v", len(next.Records), err)
	}
	full := NewBudget(1)
	full.take(1)
	if _, err := plainOf(&Env{Answers: full}, 0, large, &pb.FetchResponse{}); err == nil || err.Reason != partition.ReasonOverloaded || full.Used() != 1 {
		t.Errorf("without any room: %v, %d used", err, full.Used())
	}

	fresh := NewBudget(1 << 30)
	for name, batch := range map[string][]byte{
		"inflates too far":  sealed(t, record.CodecZstd, 0, 2, 9<<20),
		"too many records":  sealed(t, record.CodecZstd, 0, 450_000, 0),
		"many small, plain": sealed(t, record.CodecNone, 0, 450_000, 0),
	} {
		if held, err := plainOf(&Env{Answers: fresh}, 0, [][]byte{batch}, &pb.FetchResponse{}); err == nil || held != 0 || fresh.Used() != 0 {
			t.Errorf("%s: %d held, %d used, %v", name, held, fresh.Used(), err)
		}
	}
}

// Plain records have a part of the budget of answers; what they hold counts for both, and one that finds nothing there is served whatever
// it takes.
func TestPlainRecordsHaveAPart(t *testing.T) {
	answers := NewBudget(200 << 20)
	env := &Env{Answers: answers, Plain: NewPlain(answers)}
	bomb := [][]byte{sealed(t, record.CodecZstd, 0, 2, 7<<20)}
	held := 0
	for range 100 {
		n, err := plainOf(env, 0, bomb, &pb.FetchResponse{})
		if err != nil {
			if err.Reason != partition.ReasonOverloaded {
				t.Fatal(err)
			}
			break
		}
		held += n
	}
	if used := answers.Used(); used != int64(held) || used != env.Plain.Used() || used > 50<<20 || used < 30<<20 {
		t.Errorf("%d bytes are held, %d of answers are used, %d by plain records; want a quarter of %d", held, used, env.Plain.Used(), 200<<20)
	}
	env.GiveHeld(held)
	if answers.Used() != 0 || env.Plain.Used() != 0 {
		t.Errorf("%d of answers are used, %d by plain records, when all is given back", answers.Used(), env.Plain.Used())
	}
	small := NewBudget(1 << 20)
	env = &Env{Answers: small, Plain: NewPlain(small)}
	if n, err := plainOf(env, 0, bomb, &pb.FetchResponse{}); err != nil || small.Used() != int64(n) {
		t.Errorf("one that is alone: %v, %d of %d used", err, small.Used(), n)
	}
}

// What is refused allocates next to nothing: it inflates into memory that is used again, and what it would take is known before it is
// allocated. What is served uses the memory again that was given back.
func TestBombsUseMemoryAgain(t *testing.T) {
	if buffers.Poisoned {
		t.Skip("memory rests before it is lent again")
	}
	answers := NewBudget(0)
	env := &Env{Answers: answers, Plain: NewPlain(answers)}
	headers := record.NewBuilder(record.BuilderOptions{Codec: record.CodecZstd, ProducerID: -1})
	if err := headers.Append(record.Record{Headers: make([]record.Header, 400_000)}); err != nil { // 16 MiB as they are decoded, 32 as messages
		t.Fatal(err)
	}
	many, err := headers.Build()
	if err != nil {
		t.Fatal(err)
	}
	full := NewBudget(16 << 20)
	full.take(16 << 20)
	refusing := &Env{Answers: full, Plain: NewPlain(full)}
	bomb, fine := sealed(t, record.CodecGzip, 0, 2, 9<<20), sealed(t, record.CodecZstd, 0, 2, 6<<20)
	acts := []func(){
		func() {
			if _, err := plainOf(env, 0, [][]byte{bomb}, &pb.FetchResponse{}); err == nil {
				t.Error("18 MiB are served")
			}
		},
		func() {
			if _, err := plainOf(refusing, 0, [][]byte{many}, &pb.FetchResponse{}); err == nil {
				t.Error("more than the budget has is served")
			}
		},
		func() {
			h, f := plainHeld{}, fetching{plainRecords: true}
			out := &pb.FetchResponse{}
			if err := f.plain(env, [][]byte{fine}, out, &h); err != nil || len(out.Records) != 2 {
				t.Errorf("%d records, %v", len(out.Records), err)
			}
			env.GiveHeld(h.bytes)
			h.lent.Free()
		},
	}
	for i, act := range acts {
		act() // makes what is used again
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			act()
		}
		runtime.ReadMemStats(&after)
		// The garbage collector may take memory that rests, once or twice; afresh each time it would be 100 MiB at the least.
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 60<<20 {
			t.Errorf("act %d, ten times, allocates %d MiB", i, cost>>20)
		}
	}
}
