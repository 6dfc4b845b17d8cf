package group

import "fmt"

const snapshotVersion = 1

// Snapshot is the whole state: equal states have equal bytes.
func (s *State) Snapshot() []byte {
	w := &writer{}
	w.u8(snapshotVersion)
	w.count(len(s.groups))
	for _, g := range s.groups {
		w.group(g)
	}
	w.count(len(s.requests))
	for _, id := range s.requests {
		w.id(id)
		w.str(string(s.results[id]))
	}
	return w.b
}

func (w *writer) group(g *Group) {
	w.str(g.Name)
	w.i64(g.Generation)
	w.i64(g.EmptySince)
	w.topics(g.Topics)
	w.count(len(g.Members))
	for _, m := range g.Members {
		w.id(m.ID)
		w.u64(m.Instance)
		w.str(m.ClientID)
		w.count(len(m.Topics))
		for _, t := range m.Topics {
			w.str(t)
		}
		w.u32(m.SessionMs)
		w.u32(m.PollMs)
		w.i64(m.Generation)
		w.i64(m.Acked)
		w.grants(m.Held)
		w.count(len(m.Target))
		for _, tp := range m.Target {
			w.tp(tp)
		}
		w.grants(m.Told)
		w.u32(uint32(m.Waiting))
	}
	list := g.Committed()
	w.count(len(list))
	for _, tp := range list {
		w.tp(tp)
		w.i64(g.Offsets[tp].Offset)
		w.i64(g.Offsets[tp].At)
	}
}

// Restore replaces the state by a snapshot's. On an error the state is as before.
func (s *State) Restore(b []byte) error {
	r := &reader{b: b}
	if v := r.u8(); r.err == nil && v != snapshotVersion {
		return fmt.Errorf("group snapshot: version %d, this program reads %d", v, snapshotVersion)
	}
	n := NewState()
	for range r.count(4 + 8 + 8 + 4 + 4 + 4) {
		n.groups = append(n.groups, r.group())
	}
	for range r.count(16 + 4) {
		id := r.id()
		n.remember(id, []byte(r.str()))
	}
	if err := r.end(); err != nil {
		return fmt.Errorf("group snapshot: %w", err)
	}
	*s = *n
	return nil
}

func (r *reader) group() *Group {
	g := &Group{Name: r.str(), Generation: r.i64(), EmptySince: r.i64(), Topics: r.topics(), Offsets: map[TP]Offset{}}
	for range r.count(16 + 8 + 4 + 4 + 4 + 4 + 8 + 8 + 4*3 + 4) {
		m := &Member{ID: r.id(), Instance: r.u64(), ClientID: r.str()}
		for range r.count(4) {
			m.Topics = append(m.Topics, r.str())
		}
		m.SessionMs, m.PollMs, m.Generation, m.Acked = r.u32(), r.u32(), r.i64(), r.i64()
		m.Held, m.Target, m.Told, m.Waiting = r.grants(), r.tps(), r.grants(), int(r.u32())
		g.Members = append(g.Members, m)
	}
	for range r.count(8 + 8 + 8) {
		g.Offsets[r.tp()] = Offset{Offset: r.i64(), At: r.i64()}
	}
	return g
}
