package partition

import (
	"bytes"
	"runtime"
	"testing"

	"lograft/raft"
	"lograft/record"
	"lograft/segment"
)

func fuzzBatch(f *testing.F) []byte {
	b := record.NewBuilder(record.BuilderOptions{Codec: record.CodecNone, ProducerID: -1})
	if err := b.Append(record.Record{Timestamp: 5, Key: []byte("k"), Value: []byte("v")}); err != nil {
		f.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		f.Fatal(err)
	}
	return batch
}

// What one replica asks another for, and answers, comes back as it was or is refused.
func FuzzPeerQuestions(f *testing.F) {
	f.Add((&repairAsk{token: 1, from: 20, to: 30, proof: entryRef{31, 4}}).encode())
	f.Add((&repairAnswer{token: 9, verdict: repairUnknown, sum: 77}).encode())
	f.Add((&pullAsk{token: 3, file: segment.SegmentSummary{Base: 1, Last: 5, Bytes: 100}, off: 50, bytes: 10}).encode())
	f.Add((&pullAnswer{token: 4, gone: true, sum: 5}).encode())
	f.Add((&filesAsk{token: 1, from: 20, to: 30}).encode())
	f.Add(encodeFiles([]segment.SegmentSummary{{Base: 1, Last: 5, Bytes: 100}, {Base: 6, Last: 9, Bytes: 10}}))
	f.Add((&refillWord{token: 5, term: 2, index: 40}).encode())
	f.Add(command{commandTrim, 1 << 63, 9}.encode())
	f.Add((&Config{RetentionMs: -1, SegmentBytes: 1 << 40, LogAppendTime: true, Version: 7}).encode(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, ok := decodeRepairAsk(data); ok && !bytes.Equal(a.encode(), data) {
			t.Fatalf("%+v", a)
		}
		if a, ok := decodeRepairAnswer(data); ok && !bytes.Equal(a.encode(), data) {
			t.Fatalf("%+v", a)
		}
		if a, ok := decodePullAsk(data); ok && (!bytes.Equal(a.encode(), data) || a.bytes > segment.RangeBytesMax || a.off < 0) {
			t.Fatalf("%+v", a)
		}
		if a, ok := decodePullAnswer(data); ok && len(data) != pullAnswerBytes {
			t.Fatalf("%+v", a)
		}
		if a, ok := decodeFilesAsk(data); ok && (!bytes.Equal(a.encode(), data) || a.from == 0 || a.from > a.to) {
			t.Fatalf("%+v", a)
		}
		if files, ok := decodeFiles(data); ok && (!bytes.Equal(encodeFiles(files), data) || len(files) > filesMax) {
			t.Fatalf("%+v", files)
		}
		if w, ok := decodeRefillWord(data); ok && !bytes.Equal(w.encode(), data) {
			t.Fatalf("%+v", w)
		}
		if c, err := decodeCommand(data); err == nil && !bytes.Equal(c.encode(), data) {
			t.Fatalf("%+v", c)
		}
		if c, err := decodeConfig(data); err == nil && c.encode(nil)[0] != data[0] {
			t.Fatalf("%+v", c)
		}
	})
}

// A follower makes a frame of any entry that a leader sends, or refuses it: never a panic, and the log goes on where it ended.
func FuzzFrameOf(f *testing.F) {
	f.Add([]byte(nil), []byte(nil), uint64(1))
	f.Add(envelope{kind: segment.KindData, appendTime: 7}.encode(nil), fuzzBatch(f), uint64(1))
	f.Add(envelope{kind: segment.KindConfig}.encode(nil), (&Config{}).encode(nil), uint64(3))
	f.Add(envelope{kind: kindCommand}.encode(nil), command{commandTrim, 5, 5}.encode(), uint64(3))
	f.Fuzz(func(t *testing.T, context, data []byte, term uint64) {
		at := tail{appendTime: 5}
		if b, err := record.Parse(data); err == nil && len(context) == envelopeBytes {
			at.offset = b.BaseOffset()
		}
		e := raft.Entry{Index: 9, Term: term, Context: context, Data: data}
		frame, next, err := frameOf(&e, at)
		if err != nil {
			if next != at {
				t.Fatalf("the log goes on at %+v after an error", next)
			}
			return
		}
		if next.appendTime < at.appendTime || frame.Index != 9 || !bytes.Equal(frame.Payload, data) {
			t.Fatalf("%+v then %+v", frame, next)
		}
		SegmentLimit(frame)
	})
}

// A checkpoint, which comes in other replicas' snapshots, is read back to the same bytes or refused, and costs no more than its bytes can hold.
func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{conf: raft.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}, logStart: 5, nextOffset: 90, machine: []byte("m"), config: Config{SegmentBytes: 9},
		producers: producers{7: {epoch: 1, batches: []sequenced{{1, 2, 3, 4, 5}}}, 9: {released: true, batches: []sequenced{{}, {}}}}}
	f.Add(c.encode())
	c.producers, c.machine = nil, nil
	f.Add(c.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := decodeCheckpoint(data)
		runtime.ReadMemStats(&after)
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 8<<20+32*uint64(len(data)) {
			t.Fatalf("%d bytes cost %d bytes of memory", len(data), cost)
		}
		if err != nil {
			return
		}
		again, err := decodeCheckpoint(c.encode())
		if err != nil || !bytes.Equal(again.encode(), c.encode()) {
			t.Fatalf("%+v came back as %+v, %v", c, again, err)
		}
	})
}
