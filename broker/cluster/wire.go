package cluster

import "lograft/broker/wire"

// writer and reader add this package's fields to those of wire.
type writer struct{ wire.Writer }

type reader struct{ wire.Reader }

func newReader(b []byte) *reader { return &reader{wire.NewReader(b)} }

func (w *writer) ids(list []uint64) {
	w.Count(len(list))
	for _, id := range list {
		w.U64(id)
	}
}

func (r *reader) ids() (list []uint64) {
	for range r.Count(8) {
		list = append(list, r.U64())
	}
	return list
}
