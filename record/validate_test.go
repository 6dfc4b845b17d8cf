package record

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
)

func mustBuild(t testing.TB, o BuilderOptions, records ...Record) Batch {
	t.Helper()
	b := NewBuilder(o)
	for i := range records {
		if err := b.Append(records[i]); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// sample is a batch of three records of an idempotent producer.
func sample(t testing.TB) Batch {
	return mustBuild(t, BuilderOptions{ProducerID: 7, ProducerEpoch: 1, BaseSequence: 40},
		Record{Timestamp: 1000, Key: []byte("k"), Value: []byte("one")},
		Record{Timestamp: 990, Value: []byte{}},
		Record{Timestamp: 2000, Key: []byte{}, Headers: []Header{{Key: "h", Value: []byte("v")}, {Key: "null"}}})
}

// reseal makes the CRC true again after a field was changed.
func reseal(b Batch) { b.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()) }

// Each row breaks one thing in a good batch; the check named refuses it, and no other check does.
func TestValidateRefusesEachFault(t *testing.T) {
	be := binary.BigEndian
	sealed := func(f func(Batch)) func(Batch) []byte {
		return func(b Batch) []byte { f(b); reseal(b); return b }
	}
	attribute := func(bits int16) func(Batch) []byte {
		return sealed(func(b Batch) { be.PutUint16(b[21:], uint16(b.Attributes()|bits)) })
	}
	for _, row := range []struct {
		name  string
		spoil func(Batch) []byte
		kind  error
		field string
	}{
		{"no bytes", func(Batch) []byte { return nil }, ErrCorrupt, "length"},
		{"one byte short of a header", func(b Batch) []byte { return b[:HeaderBytes-1] }, ErrCorrupt, "length"},
		{"larger than allowed", func(b Batch) []byte { return append(b, make([]byte, 1<<10)...) }, ErrTooLarge, "length"},
		{"a byte behind the batch", func(b Batch) []byte { return append(b, 0) }, ErrCorrupt, "batch length"},
		{"last byte missing", func(b Batch) []byte { return b[:len(b)-1] }, ErrCorrupt, "batch length"},
		{"negative length", func(b Batch) []byte { be.PutUint32(b[8:], math.MaxUint32); return b }, ErrCorrupt, "batch length"},
		{"magic 1", func(b Batch) []byte { b[16] = 1; return b }, ErrInvalid, "magic"},
		{"a changed record", func(b Batch) []byte { b[len(b)-1] ^= 1; return b }, ErrCorrupt, "crc"},
		{"base offset already set", func(b Batch) []byte { b.Stamp(1, 0); return b }, ErrInvalid, "base offset"},
		{"negative base offset", func(b Batch) []byte { b.Stamp(-1, 0); return b }, ErrInvalid, "base offset"},
		{"no records", sealed(func(b Batch) { be.PutUint32(b[57:], 0); be.PutUint32(b[23:], math.MaxUint32) }), ErrInvalid, "records count"},
		{"delta against count", sealed(func(b Batch) { be.PutUint32(b[23:], 3) }), ErrInvalid, "last offset delta"},
		{"delta that would wrap", sealed(func(b Batch) { be.PutUint32(b[23:], math.MaxInt32) }), ErrInvalid, "last offset delta"},
		{"control batch", attribute(1 << 5), ErrInvalid, "attributes"},
		{"transactional batch", attribute(1 << 4), ErrInvalid, "attributes"},
		{"codec 5", attribute(5), ErrInvalid, "codec"},
		{"log append time", attribute(1 << 3), ErrInvalid, "timestamp type"},
		{"negative sequence", sealed(func(b Batch) { b.SetProducer(7, 1, -1) }), ErrInvalid, "base sequence"},
		{"negative epoch", sealed(func(b Batch) { b.SetProducer(7, -1, 0) }), ErrInvalid, "base sequence"},
	} {
		t.Run(row.name, func(t *testing.T) {
			good := sample(t)
			if _, err := Validate(good, 512); err != nil {
				t.Fatalf("the good batch is refused: %v", err)
			}
			got, err := Validate(row.spoil(good), 512)
			var invalid *InvalidError
			if !errors.As(err, &invalid) || !errors.Is(err, row.kind) || invalid.Field != row.field || got != nil {
				t.Fatalf("got %v, %v; want field %q of kind %v", got, err, row.field, row.kind)
			}
		})
	}
}

// What clients really send without idempotence passes: producer id -1 with sequence -1 or 0, any leader epoch, exactly the largest size.
func TestValidateAccepts(t *testing.T) {
	for _, sequence := range []int32{-1, 0} {
		b := sample(t)
		b.SetProducer(-1, -1, sequence)
		b.Stamp(0, -1)
		if _, err := Validate(b, len(b)); err != nil {
			t.Errorf("sequence %d: %v", sequence, err)
		}
	}
}

// A flipped bit anywhere is refused, except in the leader epoch, which the leader writes and the CRC leaves out.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	good := sample(t)
	for at := range good {
		for bit := range 8 {
			b := slices.Clone(good)
			b[at] ^= 1 << bit
			_, err := Validate(b, 512)
			if epoch := at >= 12 && at < 16; (err == nil) != epoch {
				t.Fatalf("byte %d bit %d: %v", at, bit, err)
			}
			if crcErr := b.CheckCRC(); (crcErr == nil) != (at < 17) {
				t.Fatalf("byte %d bit %d: CRC says %v", at, bit, crcErr)
			}
		}
	}
}

// Stamp writes base offset and leader epoch, and nothing else.
func TestStamp(t *testing.T) {
	b, before := sample(t), sample(t)
	b.Stamp(1<<40, 77)
	if b.BaseOffset() != 1<<40 || b.LeaderEpoch() != 77 || b.NextOffset() != 1<<40+3 || b.CheckCRC() != nil {
		t.Fatalf("offset %d epoch %d next %d crc %v", b.BaseOffset(), b.LeaderEpoch(), b.NextOffset(), b.CheckCRC())
	}
	b.Stamp(0, -1)
	if !slices.Equal(b, before) {
		t.Fatal("other bytes changed")
	}
}

// Sequence numbers run from 0 to 2^31-1 and then again from 0.
func TestIncrementSequence(t *testing.T) {
	for _, row := range [][3]int32{{0, 0, 0}, {0, 1, 1}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0},
		{math.MaxInt32 - 1, 3, 1}, {math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1}} {
		if got := IncrementSequence(row[0], row[1]); got != row[2] {
			t.Errorf("%d + %d = %d, want %d", row[0], row[1], got, row[2])
		}
	}
	b := sample(t)
	b.SetProducer(1, 0, math.MaxInt32-1)
	if b.LastSequence() != 0 {
		t.Errorf("last sequence %d", b.LastSequence())
	}
}

// Batches cuts a buffer into its batches and stops at the first that is cut short.
func TestBatches(t *testing.T) {
	one, two := sample(t), mustBuild(t, BuilderOptions{ProducerID: -1}, Record{Value: []byte("x")})
	both := slices.Concat([]byte(one), []byte(two))
	for n := range len(both) + 1 {
		whole, failed := 0, false
		for b, err := range Batches(both[:n]) {
			if failed {
				t.Fatalf("%d bytes: iteration goes on behind an error", n)
			}
			if failed = err != nil; failed {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%d bytes: %v", n, err)
				}
				continue
			}
			if want := [][]byte{one, two}[whole]; !slices.Equal(b, want) || cap(b) != len(b) {
				t.Fatalf("%d bytes: batch %d differs", n, whole)
			}
			whole++
		}
		wantWhole, wantFailed := 0, n != 0 && n != len(one) && n != len(both)
		if n >= len(one) {
			wantWhole++
		}
		if n == len(both) {
			wantWhole++
		}
		if whole != wantWhole || failed != wantFailed {
			t.Fatalf("%d bytes: %d batches, failed %v", n, whole, failed)
		}
	}
}

// The broker's path makes no garbage.
func TestNoAllocations(t *testing.T) {
	b := sample(t)
	var sum int64
	if n := testing.AllocsPerRun(100, func() {
		v, err := Validate(b, 512)
		if err != nil {
			panic(err)
		}
		v.Stamp(0, 3)
		sum += v.BaseOffset() + int64(v.BatchLength()) + int64(v.LeaderEpoch()) + int64(v.Magic()) + int64(v.CRC()) + int64(v.Attributes()) +
			int64(v.Codec()) + int64(v.TimestampType()) + int64(v.LastOffsetDelta()) + v.BaseTimestamp() + v.MaxTimestamp() + v.ProducerID() +
			int64(v.ProducerEpoch()) + int64(v.BaseSequence()) + int64(v.LastSequence()) + int64(v.RecordsCount()) + v.NextOffset() + int64(len(v.Records()))
		if v.IsControl() || v.IsTransactional() {
			sum++
		}
	}); n != 0 {
		t.Fatalf("%v allocations, sum %d", n, sum)
	}
}
