package group

import "lograft/broker/wire"

// writer and reader add this package's fields to those of wire.
type writer struct{ wire.Writer }

type reader struct{ wire.Reader }

func newReader(b []byte) *reader { return &reader{wire.NewReader(b)} }

func (w *writer) tp(p TP) {
	w.Str(p.Topic)
	w.U32(uint32(p.Partition))
}

func (w *writer) topics(list []Topic) {
	w.Count(len(list))
	for _, t := range list {
		w.Str(t.Name)
		w.ID(t.ID)
		w.U32(uint32(t.Partitions))
	}
}

func (w *writer) grants(list []Grant) {
	w.Count(len(list))
	for _, g := range list {
		w.tp(g.TP)
		w.I64(g.Since)
	}
}

func (r *reader) tp() TP { return TP{Topic: r.Str(), Partition: int32(r.U32())} }

func (r *reader) tps() (list []TP) {
	for range r.Count(8) {
		list = append(list, r.tp())
	}
	return list
}

func (r *reader) topics() (list []Topic) {
	for range r.Count(4 + 16 + 4) {
		list = append(list, Topic{Name: r.Str(), ID: r.ID(), Partitions: int32(r.U32())})
	}
	return list
}

func (r *reader) grants() (list []Grant) {
	for range r.Count(8 + 8) {
		list = append(list, Grant{TP: r.tp(), Since: r.I64()})
	}
	return list
}
