package cluster

import (
	"encoding/binary"
	"errors"
)

// Everything here is encoded with little-endian integers, strings and lists behind a u32 count.

var errShort = errors.New("cluster: bytes end too early")

type writer struct{ b []byte }

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) id(v ID)      { w.b = append(w.b, v[:]...) }
func (w *writer) count(n int)  { w.u32(uint32(n)) }
func (w *writer) str(s string) {
	w.count(len(s))
	w.b = append(w.b, s...)
}
func (w *writer) bytes(s []byte) {
	w.count(len(s))
	w.b = append(w.b, s...)
}

// reader reads what writer wrote. After the first error everything it returns is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = errShort
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) id() (v ID) {
	copy(v[:], r.take(len(v)))
	return v
}

func (r *reader) str() string { return string(r.bytes()) }

// bytes shares the reader's memory.
func (r *reader) bytes() []byte { return r.take(int(r.u32())) }

// count reads the length of a list whose elements take at least elementBytes each, so that a hostile count allocates nothing.
func (r *reader) count(elementBytes int) int {
	n := int(r.u32())
	if n*elementBytes > len(r.b) {
		r.err = errShort
	}
	if r.err != nil {
		return 0
	}
	return n
}

// end is the first error, or one that says that bytes are left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = errors.New("cluster: bytes are left")
	}
	return r.err
}
