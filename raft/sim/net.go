package sim

import (
	"lograft/raft"
)

// network holds the faults of the links; the messages in flight are events.
type network struct {
	c       *cluster
	cut     [nodesMax + 1][nodesMax + 1]bool // cut[from][to]: one way
	loss    float64
	dup     float64
	slow    float64 // chance of a delay of many ticks
	latency uint64  // usual delay: [1, latency] units
	slowMax uint64
}

// send takes a copy: rd.Messages end with the Ready that carried them.
func (w *network) send(from *node, m *raft.Message) {
	c := w.c
	c.stats.Messages++
	c.check.sent(from, m)
	c.trace.message(c.now, "send", m)
	if m.To == 0 || m.To > nodesMax || w.cut[from.id][m.To] || c.chance(w.loss) {
		c.stats.MessagesLost++
		w.lost(from, m)
		return
	}
	copies := 1
	if c.chance(w.dup) {
		copies = 2
		c.stats.MessagesDuplicated++
	}
	for range copies {
		delay := 1 + c.below(w.latency)
		if c.chance(w.slow) {
			delay += c.below(w.slowMax)
		}
		w.deliver(from, cloneMessage(m), delay)
	}
}

func (w *network) deliver(from *node, m raft.Message, delay uint64) {
	c, life := w.c, from.life
	c.after(delay, rankOther, "arrive", m.To, func() {
		to := c.nodes[m.To]
		if w.cut[m.From][m.To] {
			c.stats.MessagesLost++
			if from.life == life {
				w.lost(from, &m)
			}
			return
		}
		isSnapshot := m.Type == raft.MsgSnapshot
		took := to.receive(m)
		if isSnapshot && from.life == life && c.chance(0.7) {
			status := raft.SnapshotFinish
			if !took || c.chance(0.1) {
				status = raft.SnapshotFailure
			}
			c.after(1+c.below(w.latency), rankOther, "snapshot-report", from.id, func() {
				from.reportSnapshot(life, m.To, status)
			})
		}
	})
}

// lost tells the sender now and then, as a transport would.
func (w *network) lost(from *node, m *raft.Message) {
	c, life, to := w.c, from.life, m.To
	if !c.chance(0.4) {
		return
	}
	switch m.Type {
	case raft.MsgAppend:
		c.after(1+c.below(w.latency), rankOther, "unreachable", from.id, func() { from.reportUnreachable(life, to) })
	case raft.MsgSnapshot:
		c.after(1+c.below(w.latency), rankOther, "snapshot-report", from.id, func() {
			from.reportSnapshot(life, to, raft.SnapshotFailure)
		})
	}
}

func (w *network) heal() {
	w.cut = [nodesMax + 1][nodesMax + 1]bool{}
}

func (w *network) isolate(id uint64, in, out bool) {
	for other := range w.cut {
		if uint64(other) != id {
			w.cut[other][id] = w.cut[other][id] || in
			w.cut[id][other] = w.cut[id][other] || out
		}
	}
}

// split cuts every link between two random halves.
func (w *network) split() {
	side := w.c.rng.Uint64()
	for a := range w.cut {
		for b := range w.cut {
			if side>>a&1 != side>>b&1 {
				w.cut[a][b] = true
			}
		}
	}
}

// cloneMessage shares only what a receiver may keep: the bytes of entries and
// of a snapshot.
func cloneMessage(m *raft.Message) raft.Message {
	c := *m
	if m.Entries != nil {
		c.Entries = append([]raft.Entry(nil), m.Entries...)
	}
	if m.Context != nil {
		c.Context = append([]byte(nil), m.Context...)
	}
	if m.Snapshot != nil {
		s := *m.Snapshot
		s.Metadata.ConfState = cloneConf(s.Metadata.ConfState)
		c.Snapshot = &s
	}
	return c
}

// spoil overwrites all of a stepped message that the core must not have kept.
func spoil(m *raft.Message) {
	for i := range m.Entries {
		m.Entries[i] = raft.Entry{Type: 7, Term: 1 << 60, Index: 1 << 60}
	}
	for i := range m.Context {
		m.Context[i] = 0xee
	}
	if m.Snapshot == nil {
		return
	}
	cs := &m.Snapshot.Metadata.ConfState
	for _, ids := range [][]uint64{cs.Voters, cs.Learners, cs.VotersOutgoing, cs.LearnersNext} {
		for i := range ids {
			ids[i] = 1 << 60
		}
	}
	m.Snapshot.Metadata.Index = 1 << 60
	m.Snapshot.Data = nil
}
