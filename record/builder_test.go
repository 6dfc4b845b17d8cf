package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"runtime"
	"testing"
)

// The bytes of a small batch never change; they were put together by hand, the CRC bit by bit.
func TestGoldenBytes(t *testing.T) {
	const want = "0000000000000000" + "00000044" + "ffffffff" + "02" + "fd8e54df" + "0000" + "00000001" + // offset, length, epoch, magic, crc, attributes, last delta
		"00000000000003e8" + "00000000000003ea" + "0000000000000007" + "0001" + "00000028" + "00000002" + // times, producer, epoch, sequence, count
		"16" + "00" + "00" + "00" + "02" + "6b" + "02" + "76" + "02" + "02" + "68" + "01" + // record 0: k=v, header h=null
		"0c" + "00" + "04" + "02" + "01" + "00" + "00" // record 1: null key, empty value
	b := mustBuild(t, BuilderOptions{ProducerID: 7, ProducerEpoch: 1, BaseSequence: 40},
		Record{Timestamp: 1000, Key: []byte("k"), Value: []byte("v"), Headers: []Header{{Key: "h"}}}, Record{Timestamp: 1002, Value: []byte{}})
	if got := hex.EncodeToString(b); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// A builder says its exact size, stops at the limit to the byte, and is as before after a refusal.
func TestBuilderFull(t *testing.T) {
	r := Record{Timestamp: 3, Key: []byte("key"), Value: bytes.Repeat([]byte("v"), 100)}
	one := len(mustBuild(t, BuilderOptions{ProducerID: -1}, r))
	two := len(mustBuild(t, BuilderOptions{ProducerID: -1}, r, r))
	for limit := HeaderBytes; limit <= two; limit++ {
		b := NewBuilder(BuilderOptions{BytesMax: limit, ProducerID: -1})
		if err := b.Append(r); errors.Is(err, ErrTooLarge) != (limit < one) || (err == nil) != (limit >= one) {
			t.Fatalf("limit %d, first: %v", limit, err)
		}
		if limit < one {
			if _, err := b.Build(); err != ErrEmpty || b.EstimatedBytes() != HeaderBytes {
				t.Fatalf("limit %d: %v, %d bytes", limit, err, b.EstimatedBytes())
			}
			continue
		}
		if err := b.Append(r); (err == ErrFull) != (limit < two) || (err == nil) != (limit == two) {
			t.Fatalf("limit %d, second: %v", limit, err)
		}
		batch, err := b.Build()
		if err != nil || len(batch) != b.EstimatedBytes() || int(batch.RecordsCount()) != b.Count() {
			t.Fatalf("limit %d: %d bytes, %d estimated, %v", limit, len(batch), b.EstimatedBytes(), err)
		}
		if _, err := Validate(batch, limit); err != nil {
			t.Fatal(err)
		}
	}
}

// A record that is too large is refused before a byte of it is copied.
func TestBuilderRefusesBeforeCopying(t *testing.T) {
	b, r := NewBuilder(BuilderOptions{BytesMax: 1 << 10}), Record{Value: make([]byte, 64<<20)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := b.Append(r)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrTooLarge) || n > 1<<20 {
		t.Fatalf("%v after %d bytes", err, n)
	}
}

// Records that do not shrink are stored plain, so a built batch is never larger than its estimate.
func TestIncompressibleIsStoredPlain(t *testing.T) {
	r := seeded(t)
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, c := range codecs {
		if b := mustBuild(t, BuilderOptions{Codec: c, ProducerID: -1}, Record{Value: noise}); b.Codec() != CodecNone || len(b) > HeaderBytes+len(noise)+20 {
			t.Errorf("%v: %v, %d bytes", c, b.Codec(), len(b))
		}
		if b := mustBuild(t, BuilderOptions{Codec: c, ProducerID: -1}, Record{Value: text(r, 5000)}); b.Codec() != c {
			t.Errorf("%v of text became %v", c, b.Codec())
		}
	}
}

// A built batch is its own memory: the builder may go on, be reset, and be built again.
func TestBuilderReuse(t *testing.T) {
	b := NewBuilder(BuilderOptions{ProducerID: -1})
	value := []byte("first")
	if err := b.Append(Record{Value: value}); err != nil {
		t.Fatal(err)
	}
	copy(value, "XXXXX")
	one, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	b.Reset(BuilderOptions{ProducerID: -1})
	if err := b.Append(Record{Timestamp: 9, Value: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	b.SetProducer(5, 6, 7)
	two, err := b.Build()
	if err != nil || two.ProducerID() != 5 || two.ProducerEpoch() != 6 || two.BaseSequence() != 7 || two.BaseTimestamp() != 9 || two.CheckCRC() != nil {
		t.Fatalf("%x, %v", []byte(two), err)
	}
	compareRecords(t, one, []Record{{Value: []byte("first")}})
	compareRecords(t, two, []Record{{Timestamp: 9, Value: []byte("other")}})
}

// plain is a batch whose records are raw, claiming count records.
func plain(count int32, raw []byte) Batch {
	b := Batch(append(make([]byte, HeaderBytes), raw...))
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-lengthPrefix))
	b[16] = magic
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	b.SetProducer(-1, -1, -1)
	return b
}

// Each row is a fault inside the records: what is before it is yielded, then one error of the kind named.
func TestIterateRefusesEachFault(t *testing.T) {
	rec := func(delta byte) []byte { return []byte{12, 0, 0, delta, 1, 1, 0} }
	for _, row := range []struct {
		name  string
		count int32
		raw   []byte
		whole int
		kind  error
	}{
		{"fewer than counted", 2, rec(0), 1, ErrCorrupt},
		{"more than counted", 1, append(rec(0), rec(2)...), 1, ErrCorrupt},
		{"offset twice", 2, append(rec(0), rec(0)...), 1, ErrCorrupt},
		{"offset back", 3, append(rec(2), rec(0)...), 1, ErrCorrupt},
		{"offset before the base", 1, rec(1), 0, ErrCorrupt},
		{"offset behind the last", 1, rec(2), 0, ErrCorrupt},
		{"length beyond the batch", 1, []byte{14, 0, 0, 0, 1, 1, 0}, 0, ErrCorrupt},
		{"length short of the record", 1, []byte{10, 0, 0, 0, 1, 1, 0}, 0, ErrCorrupt},
		{"negative length", 1, []byte{1, 0, 0, 0, 1, 1, 0}, 0, ErrCorrupt},
		{"empty record", 1, []byte{0}, 0, ErrCorrupt},
		{"a byte behind the headers", 1, []byte{14, 0, 0, 0, 1, 1, 0, 0}, 0, ErrCorrupt},
		{"key length -2", 1, []byte{12, 0, 0, 0, 3, 1, 0}, 0, ErrCorrupt},
		{"key beyond the record", 1, []byte{12, 0, 0, 0, 100, 1, 0}, 0, ErrCorrupt},
		{"headers count -1", 1, []byte{12, 0, 0, 0, 1, 1, 1}, 0, ErrCorrupt},
		{"more headers than bytes", 1, []byte{14, 0, 0, 0, 1, 1, 2, 0}, 0, ErrCorrupt},
		{"header with null key", 1, []byte{16, 0, 0, 0, 1, 1, 2, 1, 0}, 0, ErrCorrupt},
		{"varint of six bytes", 1, []byte{22, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 1, 1, 0}, 0, ErrCorrupt},
		{"varint above 32 bits", 1, []byte{20, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x40, 1, 1, 0}, 0, ErrCorrupt},
		{"records beyond the limit", 1, make([]byte, 2001), 0, ErrTooLarge},
		{"headers beyond the limit", 1, manyHeaders(51), 0, ErrTooLarge},
		{"headers of two records beyond the limit", 2, append(manyHeaders(26), manyHeadersAt(2, 26)...), 1, ErrTooLarge},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, failures := 0, 0
			for _, err := range plain(row.count, row.raw).Iterate(Limits{DecompressedBytesMax: 2000}) {
				if err == nil {
					n++
				} else if failures++; !errors.Is(err, row.kind) {
					t.Error(err)
				}
			}
			if n != row.whole || failures != 1 {
				t.Errorf("%d records and %d errors", n, failures)
			}
		})
	}
}

func manyHeaders(n int) []byte { return manyHeadersAt(0, n) }

// manyHeadersAt is a record with n empty headers.
func manyHeadersAt(delta byte, n int) []byte {
	body := append(binary.AppendVarint([]byte{0, 0, delta, 1, 1}, int64(n)), make([]byte, 2*n)...)
	return append(binary.AppendVarint(nil, int64(len(body))), body...)
}

// A few hundred bytes of zstd that stand for 4 MiB of empty headers would take 80 MiB as Go values: they are refused first.
func TestHeaderBomb(t *testing.T) {
	const limit = 4 << 20
	b := mustBuild(t, BuilderOptions{Codec: CodecZstd, ProducerID: -1}, Record{Headers: make([]Header, 2<<20-100)})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var got error
	for _, err := range b.Iterate(Limits{DecompressedBytesMax: limit}) {
		got = err
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; !errors.Is(got, ErrTooLarge) || n > 5*limit {
		t.Fatalf("%d bytes of batch: %d MiB allocated, %v", len(b), n>>20, got)
	}
}

// A loop may leave Iterate early.
func TestIterateStops(t *testing.T) {
	for r := range sample(t).Iterate(Limits{}) {
		if r.Offset != 0 {
			t.Fatal("went on")
		}
		break
	}
	for b := range Batches(append([]byte(sample(t)), sample(t)...)) {
		if b.LastOffsetDelta() == math.MaxInt32 {
			t.Fatal("not the sample")
		}
		break
	}
}
