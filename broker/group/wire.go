package group

import (
	"encoding/binary"
	"errors"
)

// Commands, results and snapshots are little-endian integers; strings and lists stand behind a u32 count.

var errShort = errors.New("group: bytes end too early")

type writer struct{ b []byte }

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) i64(v int64)  { w.u64(uint64(v)) }
func (w *writer) id(v ID)      { w.b = append(w.b, v[:]...) }
func (w *writer) count(n int)  { w.u32(uint32(n)) }
func (w *writer) str(s string) {
	w.count(len(s))
	w.b = append(w.b, s...)
}

func (w *writer) tp(p TP) {
	w.str(p.Topic)
	w.u32(uint32(p.Partition))
}

func (w *writer) topics(list []Topic) {
	w.count(len(list))
	for _, t := range list {
		w.str(t.Name)
		w.id(t.ID)
		w.u32(uint32(t.Partitions))
	}
}

func (w *writer) grants(list []Grant) {
	w.count(len(list))
	for _, g := range list {
		w.tp(g.TP)
		w.i64(g.Since)
	}
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

func (r *reader) i64() int64 { return int64(r.u64()) }

func (r *reader) id() (v ID) {
	copy(v[:], r.take(len(v)))
	return v
}

func (r *reader) str() string { return string(r.take(int(r.u32()))) }

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

func (r *reader) tp() TP { return TP{Topic: r.str(), Partition: int32(r.u32())} }

func (r *reader) tps() (list []TP) {
	for range r.count(8) {
		list = append(list, r.tp())
	}
	return list
}

func (r *reader) topics() (list []Topic) {
	for range r.count(4 + 16 + 4) {
		list = append(list, Topic{Name: r.str(), ID: r.id(), Partitions: int32(r.u32())})
	}
	return list
}

func (r *reader) grants() (list []Grant) {
	for range r.count(8 + 8) {
		list = append(list, Grant{TP: r.tp(), Since: r.i64()})
	}
	return list
}

// end is the first error, or one that says that bytes are left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = errors.New("group: bytes are left")
	}
	return r.err
}
