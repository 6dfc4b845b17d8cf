// Package wire makes and reads the bytes of commands, results and snapshots of state machines: little-endian integers, ids of 16 bytes,
// strings and lists behind a u32 count. What a field means is the business of the package that writes it.
package wire

import (
	"encoding/binary"
	"errors"
)

// Errors of Reader.End.
var (
	ErrShort = errors.New("bytes end too early")
	ErrLeft  = errors.New("bytes are left")
)

// Writer appends fields. The zero value is empty and ready.
type Writer struct{ b []byte }

// Data is what was written so far. It belongs to the caller once the writer is not used any more.
func (w *Writer) Data() []byte { return w.b }

// U8 appends a byte.
func (w *Writer) U8(v uint8) { w.b = append(w.b, v) }

// U32 appends 4 bytes.
func (w *Writer) U32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }

// U64 appends 8 bytes.
func (w *Writer) U64(v uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, v) }

// I64 appends 8 bytes.
func (w *Writer) I64(v int64) { w.U64(uint64(v)) }

// Bool appends a byte, 1 for true.
func (w *Writer) Bool(v bool) {
	if v {
		w.U8(1)
	} else {
		w.U8(0)
	}
}

// ID appends 16 bytes.
func (w *Writer) ID(v [16]byte) { w.b = append(w.b, v[:]...) }

// Count appends the length of a list, whose elements follow.
func (w *Writer) Count(n int) { w.U32(uint32(n)) }

// Str appends a string behind its length.
func (w *Writer) Str(s string) {
	w.Count(len(s))
	w.b = append(w.b, s...)
}

// Bytes appends bytes behind their length.
func (w *Writer) Bytes(s []byte) {
	w.Count(len(s))
	w.b = append(w.b, s...)
}

// Reader reads what Writer wrote, in the same order. After the first error everything it returns is zero.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads b, which it shares.
func NewReader(b []byte) Reader { return Reader{b: b} }

func (r *Reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = ErrShort
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

// U8 reads a byte.
func (r *Reader) U8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

// U32 reads 4 bytes.
func (r *Reader) U32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// U64 reads 8 bytes.
func (r *Reader) U64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// I64 reads 8 bytes.
func (r *Reader) I64() int64 { return int64(r.U64()) }

// Bool reads a byte: only 1 is true.
func (r *Reader) Bool() bool { return r.U8() == 1 }

// ID reads 16 bytes.
func (r *Reader) ID() (v [16]byte) {
	copy(v[:], r.take(len(v)))
	return v
}

// Str reads a string.
func (r *Reader) Str() string { return string(r.Bytes()) }

// Bytes reads bytes and shares the reader's memory.
func (r *Reader) Bytes() []byte { return r.take(int(r.U32())) }

// Count reads the length of a list whose elements take at least elementBytes each, so that a hostile count allocates nothing.
func (r *Reader) Count(elementBytes int) int {
	n := int(r.U32())
	if n*elementBytes > len(r.b) {
		r.err = ErrShort
	}
	if r.err != nil {
		return 0
	}
	return n
}

// Left is how many bytes are not read yet: more than none before a field that may be missing says that it is there.
func (r *Reader) Left() int { return len(r.b) }

// Err is the first error so far.
func (r *Reader) Err() error { return r.err }

// End is the first error, or ErrLeft.
func (r *Reader) End() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = ErrLeft
	}
	return r.err
}
