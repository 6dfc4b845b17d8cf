package client

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"lograft/client/core"
	"lograft/internal/buffers"
	"lograft/record"
)

const decodedRecords = 500

// answer is an answer of two batches; value is that of record i.
func answer(t *testing.T, codec Codec, value func(i int) []byte) *fetched {
	t.Helper()
	f := &fetched{Fetched: core.Fetched{Topic: "t", Stop: -1}}
	for n := range 2 {
		b := record.NewBuilder(record.BuilderOptions{BytesMax: 8 << 20, Codec: codec, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
		for i := range decodedRecords {
			if err := b.Append(record.Record{Key: []byte("k"), Value: value(n*decodedRecords + i)}); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		batch.Stamp(int64(n*decodedRecords), 1)
		f.Batches = append(f.Batches, batch)
	}
	return f
}

// A released batch's memory is that of the next one, whose records are right; what was not released is left alone.
func TestReleasedMemoryIsUsedAgain(t *testing.T) {
	for _, codec := range []Codec{record.CodecNone, record.CodecSnappy, record.CodecZstd, record.CodecLZ4, record.CodecGzip} {
		pool := buffers.NewPool(64 << 20)
		value := func(round int) func(int) []byte {
			return func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "round %d value %d,", round, i), 20) }
		}
		check := func(b *Batch, round int) {
			t.Helper()
			if len(b.Records) != 2*decodedRecords {
				t.Fatalf("%v: %d records", codec, len(b.Records))
			}
			for i, r := range b.Records {
				if r.Offset != int64(i) || string(r.Key) != "k" || !bytes.Equal(r.Value, value(round)(i)) {
					t.Fatalf("%v: record %d of round %d is %d, %q", codec, i, round, r.Offset, r.Value)
				}
			}
		}
		decode := func(round int) *Batch {
			t.Helper()
			f := answer(t, codec, value(round))
			f.memory = pool
			if f.decode(); f.err != nil {
				t.Fatal(codec, f.err)
			}
			return f.batch
		}
		kept := decode(0)
		for round := 1; round < 10; round++ {
			b := decode(round)
			check(b, round)
			b.Release()
			if b.Records != nil {
				t.Errorf("%v: a released batch still shows records", codec)
			}
			b.Release()
		}
		check(kept, 0)
		if codec == record.CodecSnappy && !buffers.Poisoned && pool.Idle() == 0 {
			t.Error("no memory came back")
		}
	}
}

// What is released in time costs no new memory: at most a tenth of what it is without.
func TestDecodingAllocatesLittle(t *testing.T) {
	if buffers.Poisoned {
		t.Skip("memory rests before it is used again")
	}
	f := answer(t, record.CodecSnappy, func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d", i), 400) })
	f.memory = buffers.NewPool(64 << 20)
	spent := func(release bool) uint64 {
		const rounds = 50
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			f.decode()
			if release {
				f.batch.Release()
			}
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / rounds
	}
	spent(true)
	with, without := spent(true), spent(false)
	t.Logf("%d bytes allocated for an answer, %d without Release", with, without)
	if with > without/10 {
		t.Errorf("%d bytes are allocated for an answer that is released, %d for one that is not", with, without)
	}
}

// A copy that is released, too, is told of, before the memory is somebody else's twice.
func TestReleasedTwice(t *testing.T) {
	f := answer(t, record.CodecSnappy, func(int) []byte { return make([]byte, 100) })
	f.memory = buffers.NewPool(1 << 20)
	f.decode()
	other := *f.batch
	f.batch.Release()
	defer func() {
		if recover() == nil {
			t.Error("a second release of the same memory goes unnoticed")
		}
	}()
	other.Release()
}
