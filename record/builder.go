package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
)

// Record is one record of a batch. A nil Key or Value is Kafka's null; empty is empty.
type Record struct {
	Offset, Timestamp int64 // Timestamp: ms since the Unix epoch
	Key, Value        []byte
	Headers           []Header
}

// Header is a named value beside a record.
type Header struct {
	Key   string
	Value []byte
}

// BuilderOptions of a batch. BytesMax bounds the finished batch before compression, header included; 0 or
// above 2^31-1 means 2^31-1, what the length field can say. ProducerID < 0: not idempotent (0 is an id).
type BuilderOptions struct {
	Codec         Codec
	BytesMax      int
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32
}

// Builder collects records and makes a batch of them. It is not safe for concurrent use.
type Builder struct {
	opts   BuilderOptions
	raw    []byte // encoded records
	room   []byte // where they are compressed
	count  int32
	base   int64 // first record's timestamp
	latest int64 // highest timestamp
}

// growFrom is the size from which a builder takes four times the memory it had, up to its bound: a batch that became this large will
// become larger, and append's small steps copy it again and again.
const growFrom = 64 << 10

// Errors of a Builder.
var (
	ErrFull  = errors.New("record: the batch is full")
	ErrEmpty = errors.New("record: a batch needs at least one record")
)

// NewBuilder begins a batch.
func NewBuilder(o BuilderOptions) *Builder { return &Builder{opts: o} }

// Reset begins another batch with the memory of this one.
func (b *Builder) Reset(o BuilderOptions) {
	*b = Builder{opts: o, raw: b.raw[:0], room: b.room[:0]}
}

// Count is the number of records so far, EstimatedBytes the size of the batch if nothing compresses.
func (b *Builder) Count() int          { return int(b.count) }
func (b *Builder) EstimatedBytes() int { return HeaderBytes + len(b.raw) }

// SetProducer names the producer of the batch; legal until Build.
func (b *Builder) SetProducer(id int64, epoch int16, sequence int32) {
	b.opts.ProducerID, b.opts.ProducerEpoch, b.opts.BaseSequence = id, epoch, sequence
}

// Append adds a record; its bytes are copied. ErrFull if the batch would exceed BytesMax, ErrTooLarge if not even an empty one could
// hold it. Record.Offset is ignored: offsets follow from the order.
func (b *Builder) Append(r Record) error {
	if b.count == math.MaxInt32 {
		return ErrFull
	}
	base := b.base
	if b.count == 0 {
		base = r.Timestamp
	}
	body := recordBytes(&r, r.Timestamp-base, int64(b.count))
	size, limit := varintLen(int64(body))+body, b.opts.BytesMax
	if limit <= 0 || limit > math.MaxInt32 {
		limit = math.MaxInt32
	}
	if HeaderBytes+size > limit {
		return &InvalidError{ErrTooLarge, "record", "largest batch", int64(HeaderBytes + size), int64(limit)}
	}
	if b.EstimatedBytes()+size > limit {
		return ErrFull
	}
	if b.count == 0 {
		b.base, b.latest = r.Timestamp, r.Timestamp
	}
	b.latest = max(b.latest, r.Timestamp)
	if need := len(b.raw) + size; need > cap(b.raw) && need > growFrom {
		b.raw = append(make([]byte, 0, min(max(4*cap(b.raw), need), limit)), b.raw...)
	}
	b.raw = binary.AppendVarint(b.raw, int64(body))
	b.raw = appendRecord(b.raw, &r, r.Timestamp-base, int64(b.count))
	b.count++
	return nil
}

// Build compresses and finishes the batch, in new memory of just its size. Records that do not shrink are stored as they are.
func (b *Builder) Build() (Batch, error) {
	if b.count == 0 {
		return nil, ErrEmpty
	}
	codec := b.opts.Codec
	records := b.raw
	if codec != CodecNone {
		if n := codec.roomFor(len(b.raw)); cap(b.room) < n {
			b.room = make([]byte, 0, n)
		}
		var err error
		if b.room, err = codec.compress(b.room[:0], b.raw); err != nil {
			return nil, err
		}
		if records = b.room; len(records) >= len(b.raw) {
			codec, records = CodecNone, b.raw
		}
	}
	var head [HeaderBytes]byte
	out := bytes.Join([][]byte{head[:], records}, nil) // not zeroed first
	be := binary.BigEndian
	be.PutUint32(out[lengthAt:], uint32(len(out)-lengthPrefix))
	be.PutUint32(out[12:], math.MaxUint32) // leader epoch -1: not known yet
	out[16] = magic
	be.PutUint16(out[21:], uint16(codec))
	be.PutUint32(out[23:], uint32(b.count-1))
	be.PutUint64(out[27:], uint64(b.base))
	be.PutUint64(out[35:], uint64(b.latest))
	be.PutUint32(out[57:], uint32(b.count))
	batch := Batch(out)
	if b.opts.ProducerID < 0 {
		batch.SetProducer(-1, -1, -1)
	} else {
		batch.SetProducer(b.opts.ProducerID, b.opts.ProducerEpoch, b.opts.BaseSequence)
	}
	return batch, nil
}

// SetProducer writes producer id, epoch and base sequence in place and makes the CRC anew.
func (b Batch) SetProducer(id int64, epoch int16, sequence int32) {
	be := binary.BigEndian
	be.PutUint64(b[43:], uint64(id))
	be.PutUint16(b[51:], uint16(epoch))
	be.PutUint32(b[53:], uint32(sequence))
	be.PutUint32(b[17:], crc32.Checksum(b[crcFrom:], castagnoli))
}

func varintLen(v int64) int {
	n, u := 1, uint64(v<<1)^uint64(v>>63)
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// recordBytes is the number of bytes that appendRecord will write.
func recordBytes(r *Record, timestampDelta, offsetDelta int64) int {
	n := 1 + varintLen(timestampDelta) + varintLen(offsetDelta) + nullableBytes(r.Key) + nullableBytes(r.Value) + varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + nullableBytes(h.Value)
	}
	return n
}

func nullableBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

// appendRecord encodes a record without its length:
//
//	attributes i8 | timestamp delta varlong | offset delta varint | key | value | headers count varint | (key, value)...
//
// Keys and values are a varint length, -1 for null, and their bytes. Varints are zigzag.
func appendRecord(dst []byte, r *Record, timestampDelta, offsetDelta int64) []byte {
	dst = append(dst, 0)
	dst = binary.AppendVarint(dst, timestampDelta)
	dst = binary.AppendVarint(dst, offsetDelta)
	dst = appendNullable(dst, r.Key)
	dst = appendNullable(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for _, h := range r.Headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendNullable(dst, h.Value)
	}
	return dst
}

func appendNullable(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}
