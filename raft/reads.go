package raft

import (
	"cmp"
	"encoding/binary"
	"slices"

	"lograft/raft/quorum"
)

// reads is every ReadIndex that is not answered yet (rules 4 and 5).
//
// A read asked here waits in local until a leader is known, then goes to it: as MsgReadIndex, or into the leader's own queues if that
// is us. A leader keeps reads in early until it has committed in its term, then in queue. One round of heartbeats serves every read
// that was queued before it; a round has a number that the leader made, so a late answer can't confirm a later read.
type reads struct {
	// local is in order of seq. A read here is asked or forwarded; one that a leader queues is in early or queue instead.
	local    []localRead
	early    []leaderRead
	queue    []leaderRead
	answered []ReadState
	dropped  []DroppedRead

	// round is the newest round; due says that a read waits for one that has not been sent.
	due   bool
	round uint64
	sent  []sentRound // lease mode: the rounds not yet acknowledged by all, oldest first

	nonce uint64 // of this life of the node
	seq   uint64 // of the reads asked here
}

// localRead is a read asked by this node's app.
type localRead struct {
	seq   uint64
	ctx   []byte
	asked uint64 // tick
	sent  bool   // forwarded to a leader
}

// leaderRead is a read that a leader has to confirm. from 0: asked here.
type leaderRead struct {
	from  uint64
	ctx   []byte
	asked uint64
	index uint64 // commit index when it was queued
	round uint64 // the round that will confirm it
}

type sentRound struct{ round, tick uint64 }

// Bounds of what waits: more remote reads are dropped without an answer (their sender's timeout ends them); sent rounds are forgotten
// from the oldest on, which only shortens a lease.
const (
	remoteReadsMax = 1 << 16
	sentRoundsMax  = 256
)

func (s *reads) beginRound(tick uint64) {
	s.round++
	s.due = false
	if len(s.sent) == sentRoundsMax {
		s.sent = append(s.sent[:0], s.sent[1:]...)
	}
	s.sent = append(s.sent, sentRound{s.round, tick})
}

func (s *reads) roundWaits() bool { return len(s.queue) > 0 }

func (s *reads) waiting() bool { return len(s.local)+len(s.early)+len(s.queue) > 0 }

// readIndex takes a read of the app.
func (r *raft) readIndex(ctx []byte) {
	if r.state == StateLeader {
		r.queueRead(leaderRead{ctx: ctx, asked: r.ticks})
		return
	}
	r.reads.seq++
	r.reads.local = append(r.reads.local, localRead{seq: r.reads.seq, ctx: ctx, asked: r.ticks})
	r.forwardReads()
}

// forwardReads sends every read that has not gone anywhere to the leader, if there is one. Those that have stand before those that have not.
func (r *raft) forwardReads() {
	if r.leader == 0 {
		return
	}
	from := len(r.reads.local)
	for from > 0 && !r.reads.local[from-1].sent {
		from--
	}
	for i := range r.reads.local[from:] {
		l := &r.reads.local[from+i]
		l.sent = true
		r.send(Message{Type: MsgReadIndex, To: r.leader, Entries: r.keep([]Entry{{Data: r.readName(l.seq)}})})
	}
}

// readName is what names a read of ours on the wire: id, nonce, number.
func (r *raft) readName(seq uint64) []byte {
	b := make([]byte, 0, 24)
	b = binary.LittleEndian.AppendUint64(b, r.id)
	b = binary.LittleEndian.AppendUint64(b, r.reads.nonce)
	return binary.LittleEndian.AppendUint64(b, seq)
}

// ours reports whether name has the form of our own reads, those of earlier lives included.
func (r *raft) ours(name []byte) bool {
	return len(name) == 24 && binary.LittleEndian.Uint64(name) == r.id
}

// takeLocal removes the read that name stands for; ok is false if it is not one that waits here.
func (r *raft) takeLocal(name []byte) (l localRead, ok bool) {
	if !r.ours(name) || binary.LittleEndian.Uint64(name[8:]) != r.reads.nonce {
		return l, false
	}
	local := r.reads.local
	i, ok := slices.BinarySearchFunc(local, binary.LittleEndian.Uint64(name[16:]), func(l localRead, seq uint64) int {
		return cmp.Compare(l.seq, seq)
	})
	if !ok {
		return l, false
	}
	l = local[i]
	if i == 0 { // answers come in the order of the questions
		local[0] = localRead{}
		r.reads.local = local[1:]
	} else {
		r.reads.local = slices.Delete(local, i, i+1)
	}
	return l, true
}

// handleReadIndex takes a read of another node, in any role. One of our own that comes back to us as leader was dropped when we stood for
// election; bytes from ourselves that are not a name of ours were stepped by the app, whose answer they get.
func (r *raft) handleReadIndex(m *Message) {
	name := m.Entries[0].Data
	switch {
	case r.state == StateLeader && m.From == r.id:
		if !r.ours(name) {
			r.queueRead(leaderRead{ctx: name, asked: r.ticks})
		}
	case r.state == StateLeader:
		if len(r.reads.queue)+len(r.reads.early) < remoteReadsMax {
			r.queueRead(leaderRead{from: m.From, ctx: name, asked: r.ticks})
		}
	case r.leader != 0:
		r.send(Message{Type: MsgReadIndex, To: r.leader, Entries: r.keep([]Entry{{Data: name}})})
		r.msgs[len(r.msgs)-1].From = m.From
	}
}

// handleReadAnswer takes the leader's answer to a read of ours. The index is committed and of the leader's term.
func (r *raft) handleReadAnswer(m *Message) {
	if l, ok := r.takeLocal(m.Entries[0].Data); ok {
		r.reads.answered = append(r.reads.answered, ReadState{Index: m.Index, RequestCtx: l.ctx})
		r.log.fastForward(m.Index, m.Term)
	}
}

// queueRead gives a leader a read to confirm.
func (r *raft) queueRead(q leaderRead) {
	if !r.committedInTerm() {
		r.reads.early = append(r.reads.early, q)
		return
	}
	q.index = r.log.committed
	if r.aloneOrLeased() {
		r.answerRead(q)
		return
	}
	q.round = r.reads.round + 1
	r.reads.due = true
	r.reads.queue = append(r.reads.queue, q)
}

// aloneOrLeased reports whether a read needs no round: we are a quorum, or our lease holds.
func (r *raft) aloneOrLeased() bool {
	if r.quorumOf(func(p *peer) uint64 {
		if p.id == r.id {
			return 1
		}
		return 0
	}) == 1 {
		return true
	}
	return r.leaseHolds()
}

// leaseHolds is rule 1: counted from the tick in which the newest heartbeat that a quorum acknowledged was sent.
func (r *raft) leaseHolds() bool {
	if r.cfg.ReadOnlyOption != ReadOnlyLeaseBased || r.leaseVoid || r.self() == nil {
		return false
	}
	sent := r.quorumOf(func(p *peer) uint64 {
		if p.id == r.id {
			return r.ticks + 1
		}
		return p.ackTick
	})
	return sent != 0 && sent != quorum.Everything && r.ticks+1-sent < uint64(r.cfg.ElectionTick-r.cfg.LeaseMarginTick)
}

func (r *raft) answerRead(q leaderRead) {
	if q.from == 0 {
		r.reads.answered = append(r.reads.answered, ReadState{Index: q.index, RequestCtx: q.ctx})
		return
	}
	r.send(Message{Type: MsgReadIndexResp, To: q.from, Index: q.index, Entries: r.keep([]Entry{{Data: q.ctx}})})
}

// releaseEarlyReads queues the reads that came before the first commit of the term.
func (r *raft) releaseEarlyReads() {
	early := r.reads.early
	r.reads.early = nil
	for _, q := range early {
		r.queueRead(q)
	}
}

// sendRound starts the round that reads wait for, if any: once per Ready, so that one round serves all that came before it.
func (r *raft) sendRound() {
	if r.state != StateLeader || !r.reads.due {
		return
	}
	r.bcastHeartbeat()
}

// roundAcked notes that a peer acknowledged a round.
func (r *raft) roundAcked(p *peer, context []byte) error {
	if len(context) == 0 {
		return nil
	}
	round := binary.LittleEndian.Uint64(context)
	if round > r.reads.round {
		return invalid("%d acknowledges read round %d, the newest is %d", p.id, round, r.reads.round)
	}
	if round <= p.ackRound {
		return nil
	}
	p.ackRound = round
	for _, s := range r.reads.sent {
		if s.round == round {
			p.ackTick = s.tick + 1
		}
	}
	return nil
}

// releaseReads answers every queued read whose round a quorum has acknowledged.
func (r *raft) releaseReads() {
	if len(r.reads.queue) == 0 {
		return
	}
	round := r.quorumOf(func(p *peer) uint64 {
		if p.id == r.id {
			return noLimit - 1 // we confirm every round ourselves
		}
		return p.ackRound
	})
	n := 0
	for n < len(r.reads.queue) && r.reads.queue[n].round <= round {
		r.answerRead(r.reads.queue[n])
		n++
	}
	rest := copy(r.reads.queue, r.reads.queue[n:])
	clear(r.reads.queue[rest:])
	r.reads.queue = r.reads.queue[:rest]
}

// readsRoleChanged ends the reads that were sent to a leader or queued as one: whoever confirms them now does not know of them. Reads
// that have not gone anywhere go to the next leader.
func (r *raft) readsRoleChanged() {
	s := &r.reads
	for _, list := range [2][]leaderRead{s.queue, s.early} {
		for _, q := range list {
			if q.from == 0 {
				s.dropped = append(s.dropped, DroppedRead{RequestCtx: q.ctx, Reason: ErrRoleChanged})
			}
		}
	}
	s.queue, s.early, s.due = nil, nil, false
	s.sent = s.sent[:0]
	kept := s.local[:0]
	for _, l := range s.local {
		if l.sent {
			s.dropped = append(s.dropped, DroppedRead{RequestCtx: l.ctx, Reason: ErrRoleChanged})
		} else {
			kept = append(kept, l)
		}
	}
	clear(s.local[len(kept):])
	s.local = kept
	r.forwardReads()
}

// takeWaitingReads moves the reads that waited for a leader into our own queue: we are it.
func (r *raft) takeWaitingReads() {
	local := r.reads.local
	r.reads.local = nil
	for _, l := range local {
		r.queueRead(leaderRead{ctx: l.ctx, asked: l.asked})
	}
}

// expireReads ends the reads that waited ElectionTick ticks.
func (r *raft) expireReads() {
	s := &r.reads
	if !s.waiting() {
		return
	}
	due := func(asked uint64) bool { return r.ticks-asked >= uint64(r.cfg.ElectionTick) }
	if len(s.local) > 0 && due(s.local[0].asked) {
		n := 0
		for ; n < len(s.local) && due(s.local[n].asked); n++ {
			reason := ErrNoLeader
			if s.local[n].sent {
				reason = ErrReadTimeout
			}
			s.dropped = append(s.dropped, DroppedRead{RequestCtx: s.local[n].ctx, Reason: reason})
		}
		s.local = append(s.local[:0], s.local[n:]...)
	}
	s.early = s.expire(s.early, due)
	s.queue = s.expire(s.queue, due)
}

func (s *reads) expire(list []leaderRead, due func(uint64) bool) []leaderRead {
	kept := list[:0]
	for _, q := range list {
		switch {
		case !due(q.asked):
			kept = append(kept, q)
		case q.from == 0:
			s.dropped = append(s.dropped, DroppedRead{RequestCtx: q.ctx, Reason: ErrReadTimeout})
		}
	}
	clear(list[len(kept):])
	return kept
}
