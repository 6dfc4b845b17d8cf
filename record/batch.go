package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
)

// HeaderBytes is the size of a batch without its records.
const HeaderBytes = 61

const (
	lengthAt = 8
	crcFrom  = 21
	magic    = 2
	// lengthPrefix is what the batch length field does not count.
	lengthPrefix = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one complete RecordBatch v2: a view, nothing is copied. Accessors are safe after Parse or Validate.
type Batch []byte

func (b Batch) i64(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
func (b Batch) i32(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }
func (b Batch) i16(at int) int16 { return int16(binary.BigEndian.Uint16(b[at:])) }

// The fields of the header, as they stand there.

func (b Batch) BaseOffset() int64      { return b.i64(0) }
func (b Batch) BatchLength() int32     { return b.i32(lengthAt) }
func (b Batch) LeaderEpoch() int32     { return b.i32(12) }
func (b Batch) Magic() int8            { return int8(b[16]) }
func (b Batch) CRC() uint32            { return uint32(b.i32(17)) }
func (b Batch) Attributes() int16      { return b.i16(21) }
func (b Batch) Codec() Codec           { return Codec(b.Attributes() & 7) }
func (b Batch) TimestampType() int8    { return int8(b.Attributes() >> 3 & 1) }
func (b Batch) IsTransactional() bool  { return b.Attributes()&(1<<4) != 0 }
func (b Batch) IsControl() bool        { return b.Attributes()&(1<<5) != 0 }
func (b Batch) LastOffsetDelta() int32 { return b.i32(23) }
func (b Batch) BaseTimestamp() int64   { return b.i64(27) }
func (b Batch) MaxTimestamp() int64    { return b.i64(35) }
func (b Batch) ProducerID() int64      { return b.i64(43) }
func (b Batch) ProducerEpoch() int16   { return b.i16(51) }
func (b Batch) BaseSequence() int32    { return b.i32(53) }
func (b Batch) RecordsCount() int32    { return b.i32(57) }
func (b Batch) Records() []byte        { return b[HeaderBytes:] }

// LastSequence is the sequence number of the last record; sequence numbers count records and wrap after 2^31-1.
func (b Batch) LastSequence() int32 {
	return IncrementSequence(b.BaseSequence(), b.LastOffsetDelta())
}

// NextOffset is the offset after the last record.
func (b Batch) NextOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) + 1 }

// IncrementSequence adds by to a sequence number; they wrap after 2^31-1 to 0.
func IncrementSequence(seq, by int32) int32 {
	return int32((int64(seq) + int64(by)) & math.MaxInt32)
}

// Kinds of an InvalidError, for errors.Is.
var (
	ErrCorrupt  = errors.New("corrupt record batch")
	ErrTooLarge = errors.New("record batch too large")
	ErrInvalid  = errors.New("invalid record batch")
)

// InvalidError names the field that a check refused.
type InvalidError struct {
	Kind      error
	Field     string
	Reason    string
	Got, Want int64
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("%v: %s %d: %s (%d)", e.Kind, e.Field, e.Got, e.Reason, e.Want)
}
func (e *InvalidError) Unwrap() error { return e.Kind }

// Parse checks length and magic, so that every accessor of the returned view is safe. b is kept.
func Parse(b []byte) (Batch, error) {
	if len(b) < HeaderBytes {
		return nil, &InvalidError{ErrCorrupt, "length", "shorter than a header", int64(len(b)), HeaderBytes}
	}
	if n := int64(Batch(b).BatchLength()) + lengthPrefix; n != int64(len(b)) {
		return nil, &InvalidError{ErrCorrupt, "batch length", "does not match the bytes given", n, int64(len(b))}
	}
	if m := Batch(b).Magic(); m != magic {
		return nil, &InvalidError{ErrInvalid, "magic", "only version 2 is known", int64(m), magic}
	}
	return b, nil
}

// CheckCRC compares the stored CRC-32C with that of the bytes from 21 on. ErrCorrupt if they differ.
func (b Batch) CheckCRC() error {
	if got := crc32.Checksum(b[crcFrom:], castagnoli); got != b.CRC() {
		return &InvalidError{ErrCorrupt, "crc", "bytes changed on the way", int64(b.CRC()), int64(got)}
	}
	return nil
}

// Validate makes every check of ingest (Kafka's analyzeAndValidateRecords, without decompressing). b is kept; bytesMax bounds the whole
// batch, header included. The error is an *InvalidError of kind ErrTooLarge, ErrCorrupt or ErrInvalid.
func Validate(b []byte, bytesMax int) (Batch, error) {
	if len(b) > bytesMax {
		return nil, &InvalidError{ErrTooLarge, "length", "largest batch", int64(len(b)), int64(bytesMax)}
	}
	v, err := Parse(b)
	if err != nil {
		return nil, err
	}
	if err := v.CheckCRC(); err != nil {
		return nil, err
	}
	bad := func(field, reason string, got, want int64) (Batch, error) {
		return nil, &InvalidError{ErrInvalid, field, reason, got, want}
	}
	switch {
	case v.BaseOffset() != 0:
		return bad("base offset", "a producer sends 0", v.BaseOffset(), 0)
	case v.RecordsCount() <= 0:
		return bad("records count", "at least", int64(v.RecordsCount()), 1)
	case int64(v.LastOffsetDelta())+1 != int64(v.RecordsCount()):
		return bad("last offset delta", "records count - 1", int64(v.LastOffsetDelta()), int64(v.RecordsCount())-1)
	case int64(v.RecordsCount()) > v.recordsMax():
		return bad("records count", "the bytes hold at most", int64(v.RecordsCount()), v.recordsMax())
	case v.IsControl():
		return bad("attributes", "control batches are the broker's", int64(v.Attributes()), 0)
	case v.IsTransactional():
		return bad("attributes", "transactions are not supported", int64(v.Attributes()), 0)
	case v.Codec() > CodecZstd:
		return bad("codec", "highest known", int64(v.Codec()), int64(CodecZstd))
	case v.TimestampType() != 0:
		return bad("timestamp type", "a producer sends create time", int64(v.TimestampType()), 0)
	case v.ProducerID() >= 0 && (v.BaseSequence() < 0 || v.ProducerEpoch() < 0):
		return bad("base sequence", "an idempotent producer numbers from", int64(v.BaseSequence()), 0)
	}
	return v, nil
}

// recordBytesMin is the smallest record: seven fields of a byte.
const recordBytesMin = 7

// recordsMax is how many records the bytes can hold; compressed ones as many as any reader would inflate.
func (b Batch) recordsMax() int64 {
	if b.Codec() == CodecNone {
		return int64(len(b.Records())) / recordBytesMin
	}
	return DecompressedBytesDefault / recordBytesMin
}

// Stamp writes base offset and leader epoch in place. Both are outside the CRC.
func (b Batch) Stamp(baseOffset int64, leaderEpoch int32) {
	binary.BigEndian.PutUint64(b[0:], uint64(baseOffset))
	binary.BigEndian.PutUint32(b[12:], uint32(leaderEpoch))
}

// SetLogAppendTime makes ms the timestamp of every record, as a topic with message.timestamp.type=LogAppendTime demands, and sums the
// batch anew. The base timestamp stays, as in Kafka: the maximum counts.
func (b Batch) SetLogAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes()|1<<3))
	binary.BigEndian.PutUint64(b[35:], uint64(ms))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[crcFrom:], castagnoli))
}

// Batches iterates over concatenated batches; the views share b. It ends after the first error.
func Batches(b []byte) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		for len(b) > 0 {
			if len(b) < HeaderBytes {
				yield(nil, &InvalidError{ErrCorrupt, "length", "shorter than a header", int64(len(b)), HeaderBytes})
				return
			}
			n := int64(Batch(b).BatchLength()) + lengthPrefix
			if n < HeaderBytes || n > int64(len(b)) {
				yield(nil, &InvalidError{ErrCorrupt, "batch length", "bytes left", n, int64(len(b))})
				return
			}
			v, err := Parse(b[:n:n])
			if !yield(v, err) || err != nil {
				return
			}
			b = b[n:]
		}
	}
}
