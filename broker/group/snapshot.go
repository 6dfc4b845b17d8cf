package group

import (
	"fmt"
	"slices"
)

// Version 2 added static members, 3 leader epochs of offsets. Each state is written in the lowest version that can say it: brokers of an older build take it over.
const (
	snapshotFirst   = 1
	snapshotStatic  = 2
	snapshotEpochs  = 3
	snapshotVersion = snapshotEpochs
)

// lowestVersion is the version that can say what the state holds.
func (s *State) lowestVersion() uint8 {
	version := uint8(snapshotFirst)
	for _, g := range s.groups {
		for _, o := range g.Offsets { // order does not matter
			if o.Epoch != 0 {
				return snapshotEpochs
			}
		}
		if slices.ContainsFunc(g.Members, func(m *Member) bool { return m.InstanceID != "" }) {
			version = snapshotStatic
		}
	}
	return version
}

// Snapshot is the whole state: equal states have equal bytes.
func (s *State) Snapshot() []byte {
	w := &writer{}
	version := s.lowestVersion()
	w.U8(version)
	w.Count(len(s.groups))
	for _, g := range s.groups {
		w.group(g, version)
	}
	w.Count(len(s.requests))
	for _, id := range s.requests {
		w.ID(id)
		w.Str(string(s.results[id]))
	}
	return w.Data()
}

func (w *writer) group(g *Group, version uint8) {
	w.Str(g.Name)
	w.I64(g.Generation)
	w.I64(g.EmptySince)
	w.topics(g.Topics)
	w.Count(len(g.Members))
	for _, m := range g.Members {
		w.ID(m.ID)
		w.U64(m.Instance)
		w.Str(m.ClientID)
		if version >= snapshotStatic {
			w.Str(m.InstanceID)
			w.Count(len(m.Fenced))
			for _, id := range m.Fenced {
				w.ID(id)
			}
		}
		w.Count(len(m.Topics))
		for _, t := range m.Topics {
			w.Str(t)
		}
		w.U32(m.SessionMs)
		w.U32(m.PollMs)
		w.I64(m.Generation)
		w.I64(m.Acked)
		w.grants(m.Held)
		w.Count(len(m.Target))
		for _, tp := range m.Target {
			w.tp(tp)
		}
		w.grants(m.Told)
		w.U32(uint32(m.Waiting))
	}
	list := g.Committed()
	w.Count(len(list))
	for _, tp := range list {
		w.tp(tp)
		w.I64(g.Offsets[tp].Offset)
		w.I64(g.Offsets[tp].At)
		if version >= snapshotEpochs {
			w.U32(uint32(g.Offsets[tp].Epoch))
		}
	}
}

// Restore replaces the state by a snapshot's. On an error the state is as before.
func (s *State) Restore(b []byte) error {
	r := newReader(b)
	version := r.U8()
	if r.Err() == nil && (version < snapshotFirst || version > snapshotVersion) {
		return fmt.Errorf("group snapshot: version %d, this program reads 1 to %d", version, snapshotVersion)
	}
	n := NewState()
	for range r.Count(4 + 8 + 8 + 4 + 4 + 4) {
		n.groups = append(n.groups, r.group(version))
	}
	for range r.Count(16 + 4) {
		id := r.ID()
		n.remember(id, []byte(r.Str()))
	}
	if err := r.End(); err != nil {
		return fmt.Errorf("group snapshot: %w", err)
	}
	*s = *n
	return nil
}

func (r *reader) group(version uint8) *Group {
	g := &Group{Name: r.Str(), Generation: r.I64(), EmptySince: r.I64(), Topics: r.topics(), Offsets: map[TP]Offset{}}
	for range r.Count(16 + 8 + 4 + 4 + 4 + 4 + 8 + 8 + 4*3 + 4) {
		m := &Member{ID: r.ID(), Instance: r.U64(), ClientID: r.Str()}
		if version >= snapshotStatic {
			m.InstanceID = r.Str()
			for range r.Count(16) {
				m.Fenced = append(m.Fenced, r.ID())
			}
		}
		for range r.Count(4) {
			m.Topics = append(m.Topics, r.Str())
		}
		m.SessionMs, m.PollMs, m.Generation, m.Acked = r.U32(), r.U32(), r.I64(), r.I64()
		m.Held, m.Target, m.Told, m.Waiting = r.grants(), r.tps(), r.grants(), int(r.U32())
		g.Members = append(g.Members, m)
	}
	for range r.Count(8 + 8 + 8) {
		tp, o := r.tp(), Offset{Offset: r.I64(), At: r.I64()}
		if version >= snapshotEpochs {
			o.Epoch = int32(r.U32())
		}
		g.Offsets[tp] = o
	}
	return g
}
