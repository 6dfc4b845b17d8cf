package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// someBytes is null, empty or up to n random bytes.
func someBytes(r *rand.Rand, n int) []byte {
	switch r.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	return text(r, 1+r.IntN(n))
}

func someRecords(r *rand.Rand) []Record {
	out := make([]Record, 1+r.IntN(40))
	for i := range out {
		out[i] = Record{Offset: int64(i), Timestamp: r.Int64N(1<<41) - 1, Key: someBytes(r, 90), Value: someBytes(r, 3000)}
		if r.IntN(50) == 0 {
			out[i].Timestamp = []int64{math.MaxInt64, math.MinInt64, 0, -1}[r.IntN(4)]
		}
		for range r.IntN(4) {
			out[i].Headers = append(out[i].Headers, Header{Key: string(someBytes(r, 70)), Value: someBytes(r, 70)})
		}
	}
	return out
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func sameRecord(a, b *Record) bool {
	same := a.Offset == b.Offset && a.Timestamp == b.Timestamp && sameBytes(a.Key, b.Key) && sameBytes(a.Value, b.Value) && len(a.Headers) == len(b.Headers)
	for i := 0; same && i < len(a.Headers); i++ {
		same = a.Headers[i].Key == b.Headers[i].Key && sameBytes(a.Headers[i].Value, b.Headers[i].Value)
	}
	return same
}

// compareRecords iterates b and expects exactly want.
func compareRecords(t *testing.T, b Batch, want []Record) {
	t.Helper()
	n := 0
	for got, err := range b.Iterate(Limits{}) {
		if err != nil || n == len(want) || !sameRecord(&got, &want[n]) {
			t.Fatalf("record %d of %d: %+v, %v", n, len(want), got, err)
		}
		n++
	}
	if n != len(want) {
		t.Fatalf("%d records, want %d", n, len(want))
	}
}

// compareHeader reads b with kmsg and compares every field of the header.
func compareHeader(t *testing.T, b Batch) (k kmsg.RecordBatch) {
	t.Helper()
	if err := k.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name      string
		ours, his int64
	}{
		{"base offset", b.BaseOffset(), k.FirstOffset}, {"length", int64(b.BatchLength()), int64(k.Length)},
		{"epoch", int64(b.LeaderEpoch()), int64(k.PartitionLeaderEpoch)}, {"magic", int64(b.Magic()), int64(k.Magic)},
		{"crc", int64(b.CRC()), int64(uint32(k.CRC))}, {"attributes", int64(b.Attributes()), int64(k.Attributes)},
		{"last offset delta", int64(b.LastOffsetDelta()), int64(k.LastOffsetDelta)}, {"base timestamp", b.BaseTimestamp(), k.FirstTimestamp},
		{"max timestamp", b.MaxTimestamp(), k.MaxTimestamp}, {"producer id", b.ProducerID(), k.ProducerID},
		{"producer epoch", int64(b.ProducerEpoch()), int64(k.ProducerEpoch)}, {"base sequence", int64(b.BaseSequence()), int64(k.FirstSequence)},
		{"records count", int64(b.RecordsCount()), int64(k.NumRecords)},
	} {
		if f.ours != f.his {
			t.Fatalf("%s: %d, kmsg says %d", f.name, f.ours, f.his)
		}
	}
	if !bytes.Equal(b.Records(), k.Records) {
		t.Fatal("records differ")
	}
	return k
}

// What we build, kmsg reads field by field, whatever the codec.
func TestBuiltBatchesReadByKmsg(t *testing.T) {
	r := seeded(t)
	builder := NewBuilder(BuilderOptions{})
	for range 200 {
		records, o := someRecords(r), BuilderOptions{Codec: codecs[r.IntN(len(codecs))], ProducerID: r.Int64(), ProducerEpoch: int16(r.IntN(1 << 15)), BaseSequence: r.Int32()}
		builder.Reset(o)
		for i := range records {
			if err := builder.Append(records[i]); err != nil {
				t.Fatal(err)
			}
		}
		b, err := builder.Build()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Validate(b, builder.EstimatedBytes()); err != nil {
			t.Fatal(err)
		}
		b.Stamp(r.Int64N(1<<50), r.Int32())
		k := compareHeader(t, b)
		if k.ProducerID != o.ProducerID || k.ProducerEpoch != o.ProducerEpoch || k.FirstSequence != o.BaseSequence || int(k.NumRecords) != len(records) {
			t.Fatalf("%+v from %+v", k, o)
		}
		raw, err := b.Codec().decompress(k.Records, 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		latest := int64(math.MinInt64)
		for i := range records {
			got, rest, err := kmsgRecord(raw, &k)
			if err != nil {
				t.Fatal(err)
			}
			raw, latest = rest, max(latest, records[i].Timestamp)
			records[i].Offset += b.BaseOffset()
			if !sameRecord(&got, &records[i]) {
				t.Fatalf("record %d: %+v, want %+v", i, got, records[i])
			}
		}
		if len(raw) != 0 || k.MaxTimestamp != latest {
			t.Fatalf("%d bytes left, max timestamp %d, want %d", len(raw), k.MaxTimestamp, latest)
		}
		compareRecords(t, b, records)
	}
}

var errTwin = errors.New("the twin refuses")

// kmsgRecord is the dumb twin of the decoder: it cuts the first record off raw and reads it with kmsg.
func kmsgRecord(raw []byte, k *kmsg.RecordBatch) (r Record, rest []byte, err error) {
	size, n := binary.Varint(raw)
	if n <= 0 || size < 0 || size > int64(len(raw)-n) {
		return r, nil, errTwin
	}
	end := n + int(size)
	var kr kmsg.Record
	if err := kr.ReadFrom(raw[:end]); err != nil {
		return r, nil, err
	}
	r = Record{Offset: k.FirstOffset + int64(kr.OffsetDelta), Timestamp: k.FirstTimestamp + kr.TimestampDelta64, Key: kr.Key, Value: kr.Value}
	if k.Attributes&8 != 0 {
		r.Timestamp = k.MaxTimestamp
	}
	for _, h := range kr.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return r, raw[end:], nil
}

// What kmsg writes is accepted and read back, with gaps in the offsets as compaction leaves them and append time as the broker sets it.
func TestKmsgBatchesRead(t *testing.T) {
	r := seeded(t)
	for range 200 {
		records, codec := someRecords(r), codecs[r.IntN(len(codecs))]
		k := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: int16(codec), LastOffsetDelta: int32(len(records) - 1), FirstTimestamp: records[0].Timestamp,
			MaxTimestamp: r.Int64(), ProducerID: -1, ProducerEpoch: -1, FirstSequence: int32(-r.IntN(2)), NumRecords: int32(len(records))}
		gap := int32(r.IntN(3))
		var raw []byte
		for i := range records {
			records[i].Offset = int64(i) * int64(gap+1)
			raw = append(raw, kmsgEncode(&records[i], k.FirstTimestamp)...)
		}
		var err error
		if k.Records, err = codec.compress(nil, raw); err != nil {
			t.Fatal(err)
		}
		k.Length = int32(HeaderBytes - lengthPrefix + len(k.Records))
		b := Batch(k.AppendTo(nil))
		reseal(b)
		if _, err := Validate(b, len(b)); err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint32(b[23:], uint32(len(records)-1)*uint32(gap+1)) // as left by compaction
		if r.IntN(3) == 0 {
			b[22] |= 8
			for i := range records {
				records[i].Timestamp = k.MaxTimestamp
			}
		}
		reseal(b)
		compareHeader(t, b)
		compareRecords(t, b, records)
	}
}

func kmsgEncode(r *Record, baseTimestamp int64) []byte {
	kr := kmsg.Record{TimestampDelta64: r.Timestamp - baseTimestamp, OffsetDelta: int32(r.Offset), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		kr.Headers = append(kr.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
	}
	kr.Length = int32(len(kr.AppendTo(nil)) - 1) // less the one byte of a zero length
	return kr.AppendTo(nil)
}
