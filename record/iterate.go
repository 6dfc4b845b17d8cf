package record

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"
)

// Limits of Iterate. Zero means the default.
type Limits struct {
	DecompressedBytesMax int // DecompressedBytesDefault
	// Room gives memory of at least so many bytes, whatever their content, for the records of a batch to be inflated into; it lives as long
	// as they do. It is asked once at most, and only for a codec that says beforehand how much it takes (snappy). nil: it is allocated.
	Room func(bytes int) []byte
}

// headerBytes is what a Header costs in memory beside its bytes; on the wire it may be two bytes.
const headerBytes = 40

// Iterate decodes the records of a batch, decompressing within limits. Keys and values share one buffer that lives as long as any of
// them (without a codec it is the batch itself). Offsets rise strictly from BaseOffset and may have gaps. It ends after the first error,
// an *InvalidError of kind ErrCorrupt, or ErrTooLarge if the records, or the headers of all records, would take more than the limit.
func (b Batch) Iterate(lim Limits) iter.Seq2[Record, error] {
	if lim.DecompressedBytesMax <= 0 {
		lim.DecompressedBytesMax = DecompressedBytesDefault
	}
	return func(yield func(Record, error) bool) {
		raw, err := b.Codec().decompressIn(lim.Room, b.Records(), lim.DecompressedBytesMax)
		if err != nil {
			yield(Record{}, b.inflateError(err, lim.DecompressedBytesMax))
			return
		}
		b.Decode(raw, lim)(yield)
	}
}

func (b Batch) inflateError(err error, bytesMax int) error {
	kind := ErrCorrupt
	if errors.Is(err, errInflates) {
		kind = ErrTooLarge
	}
	return &InvalidError{kind, "records", b.Codec().String() + ": " + err.Error(), int64(len(b.Records())), int64(bytesMax)}
}

// Inflate undoes the compression of a batch's records in dst and returns the part of dst that they take; without a codec, where they are.
// It takes no other memory but a decoder's, whose window is at most 1 MiB while dst has less than 8 MiB. The error is an *InvalidError, of
// kind ErrTooLarge if dst, or that window, does not suffice.
func (b Batch) Inflate(dst []byte) (raw []byte, err error) {
	if raw, err = b.Codec().inflate(dst, b.Records()); err != nil {
		return nil, b.inflateError(err, len(dst))
	}
	return raw, nil
}

// Decode is Iterate over records that are inflated already (Inflate). Keys and values share raw.
func (b Batch) Decode(raw []byte, lim Limits) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		d := b.decoder(raw, lim)
		d.all(yield)
	}
}

// Headers counts the headers of all records in raw (Inflate), without taking memory. The error is that with which Decode would end.
func (b Batch) Headers(raw []byte, lim Limits) (n int, err error) {
	d := b.decoder(raw, lim)
	d.skim = true
	before := d.headersLeft
	d.all(func(_ Record, e error) bool { err = e; return true })
	return before - d.headersLeft, err
}

func (b Batch) decoder(raw []byte, lim Limits) recordDecoder {
	if lim.DecompressedBytesMax <= 0 {
		lim.DecompressedBytesMax = DecompressedBytesDefault
	}
	return recordDecoder{batch: b, in: decoder{raw}, bytesMax: lim.DecompressedBytesMax, headersLeft: lim.DecompressedBytesMax / headerBytes, previousDelta: -1}
}

// all yields every record.
func (d *recordDecoder) all(yield func(Record, error) bool) {
	b := d.batch
	for i := int32(0); i < b.RecordsCount(); i++ {
		r, err := d.next()
		switch {
		case errors.Is(err, errHeaders):
			yield(Record{}, &InvalidError{ErrTooLarge, "headers of record", err.Error(), int64(i), int64(d.bytesMax)})
			return
		case err != nil:
			yield(Record{}, &InvalidError{ErrCorrupt, "record", err.Error(), int64(i), int64(b.RecordsCount())})
			return
		}
		if !yield(r, nil) {
			return
		}
	}
	if n := len(d.in.b); n > 0 {
		yield(Record{}, &InvalidError{ErrCorrupt, "records", "bytes behind the last record", int64(n), 0})
	}
}

var (
	errMalformed = errors.New("malformed")
	errOrder     = errors.New("offset out of order")
	errHeaders   = errors.New("headers take more memory than the limit")
)

// recordDecoder reads the records of one batch in order.
type recordDecoder struct {
	batch    Batch
	in       decoder
	bytesMax int  // by which errors say what was too much
	skim     bool // headers are read and not kept
	// headersLeft bounds the headers of all records still to come. Invariant: a slice of headers is made only after it was charged here.
	headersLeft int
	// previousDelta is the last record's offset delta, -1 before the first. Invariant: deltas rise strictly and end at LastOffsetDelta.
	previousDelta int64
}

func (d *recordDecoder) next() (r Record, err error) {
	size, ok := d.in.length()
	if !ok {
		return r, errMalformed
	}
	body, ok := d.in.take(size)
	if !ok || len(body) < 1 {
		return r, errMalformed
	}
	in := decoder{b: body[1:]} // the record's attributes have no meaning
	ts, ok1 := in.varint()
	delta, ok2 := in.length()
	if !ok1 || !ok2 {
		return r, errMalformed
	}
	if delta <= d.previousDelta || delta > int64(d.batch.LastOffsetDelta()) {
		return r, errOrder
	}
	d.previousDelta = delta
	r.Timestamp, r.Offset = d.batch.BaseTimestamp()+ts, d.batch.BaseOffset()+delta
	if d.batch.TimestampType() == 1 {
		r.Timestamp = d.batch.MaxTimestamp()
	}
	if r.Key, ok1 = in.nullable(); !ok1 {
		return r, errMalformed
	}
	if r.Value, ok1 = in.nullable(); !ok1 {
		return r, errMalformed
	}
	if r.Headers, err = d.headers(&in); err != nil {
		return r, err
	}
	if len(in.b) > 0 {
		return r, errMalformed
	}
	return r, nil
}

func (d *recordDecoder) headers(in *decoder) ([]Header, error) {
	n, ok := in.length()
	if !ok || n < 0 || n > int64(len(in.b)/2) { // a header takes two bytes at least
		return nil, errMalformed
	}
	if n == 0 {
		return nil, nil
	}
	if n > int64(d.headersLeft) {
		return nil, errHeaders
	}
	d.headersLeft -= int(n)
	var out []Header
	if !d.skim {
		out = make([]Header, n)
	}
	for i := range n {
		size, ok := in.length()
		if !ok {
			return nil, errMalformed
		}
		key, ok := in.take(size)
		if !ok {
			return nil, errMalformed
		}
		value, ok := in.nullable()
		if !ok {
			return nil, errMalformed
		}
		if !d.skim {
			out[i] = Header{Key: string(key), Value: value}
		}
	}
	return out, nil
}

// decoder reads from the front of b.
type decoder struct{ b []byte }

// varint reads up to 64 bits, zigzag.
func (d *decoder) varint() (int64, bool) {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		return 0, false
	}
	d.b = d.b[n:]
	return v, true
}

// length reads a varint of 32 bits in at most five bytes, as lengths, counts and offset deltas are.
func (d *decoder) length() (int64, bool) {
	v, n := binary.Varint(d.b)
	if n <= 0 || n > 5 || v < math.MinInt32 || v > math.MaxInt32 {
		return 0, false
	}
	d.b = d.b[n:]
	return v, true
}

func (d *decoder) take(n int64) ([]byte, bool) {
	if n < 0 || n > int64(len(d.b)) {
		return nil, false
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out, true
}

// nullable reads a length and its bytes; length -1 is null.
func (d *decoder) nullable() ([]byte, bool) {
	n, ok := d.length()
	if !ok || n < -1 {
		return nil, false
	}
	if n == -1 {
		return nil, true
	}
	return d.take(n)
}
