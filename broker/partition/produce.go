package partition

import (
	"errors"
	"fmt"
	"slices"

	"lograft/raft"
	"lograft/record"
	"lograft/segment"
)

// leadership is what only a leader has. It is empty on followers.
type leadership struct {
	// ready: this replica leads and has applied its own no-op. Before that it can't judge an append (architecture D15).
	ready bool
	term  uint64
	tail  tail      // what the next proposed frame continues
	known producers // the applied table and everything in flight
	// Invariant: inflight is in order of index, every index > applied.
	inflight []pending
	synced   int // so many of the first in flight are on this broker's disk

	own        []own  // commands in flight
	configured uint64 // Config.Version of the last one proposed
	house      housekeeping
	changing   changing

	refused     *Error          // the first refusal of this step: later batches of this step get the same
	refusedFrom map[int64]int32 // producer id -> sequence that was refused; later ones are refused until it comes again
}

// pending is a proposed entry and who waits for it.
type pending struct {
	index      uint64
	offset     int64
	appendTime int64
	waiters    []waiter
	times      times
}

// denial is an append's refusal that names the log's end, or what it implies: a claim about the end like that of a read. It is told when
// the tail that it was judged against, up to index, has committed, and a round that began later has shown that this replica led term then:
// another leader may have appended since this one was cut off.
type denial struct {
	index, term uint64
	err         *Error
}

func (l *leadership) cancel(from uint64) {
	for i := range l.inflight {
		l.inflight[i].waiters = slices.DeleteFunc(l.inflight[i].waiters, func(w waiter) bool { return w.from == from })
	}
	l.own = slices.DeleteFunc(l.own, func(o own) bool { return o.from == from })
}

// produce appends a batch. Appends are judged against everything before them, applied or in flight, so the answer to a retry is
// the original one, and an answer that denies waits until what it was judged against is certain.
func (r *Replica) produce(env *Env, q *Request) {
	l := &r.lead
	if r.opts.Machine != nil {
		env.fail(q, &Error{Reason: ReasonInvalid, Message: "an internal topic takes no records: name a topic of yours"})
		return
	}
	if r.role != raft.StateLeader {
		env.fail(q, r.notLeader(OutcomeFailed))
		return
	}
	if !l.ready || r.moved() {
		env.fail(q, &Error{Reason: ReasonNotReady, Message: "the new leader has not committed in its term yet: retry", LeaderEpoch: int32(r.hard.Term), Leader: r.leader, LeaderNode: r.nodeOf(r.leader), RetryAfterMs: 10})
		return
	}
	b := q.Batch
	if limit := r.config.MessageBytes; limit > 0 && int64(len(b)) > limit {
		env.fail(q, &Error{Reason: ReasonTooLarge, Message: fmt.Sprintf("a batch of %d bytes: max.message.bytes of the topic is %d: send fewer or smaller records at once, or: broker topic alter TOPIC -c max.message.bytes=N", len(b), limit)})
		return
	}
	if err := l.stillRefused(b); err != nil {
		env.fail(q, err)
		return
	}
	if b.ProducerID() >= 0 {
		switch v, original := l.known.judge(b); v {
		case verdictDuplicate:
			r.duplicate(env, q, original)
			return
		case verdictFenced:
			r.deny(env, q, &Error{Reason: ReasonFenced, Message: fmt.Sprintf("producer %d has a newer epoch than %d: another instance took over; open a new producer", b.ProducerID(), b.ProducerEpoch())})
			return
		case verdictGap:
			r.deny(env, q, &Error{Reason: ReasonSequenceGap, Message: fmt.Sprintf("producer %d epoch %d: sequence %d does not continue what this partition holds", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())})
			return
		}
		if l.known[b.ProducerID()] == nil && len(l.known) >= producersMax {
			l.house.crowded = true
			env.fail(q, &Error{Reason: ReasonProducerTableFull, Message: fmt.Sprintf("the partition remembers %d producers already: close idle producers and retry", producersMax), RetryAfterMs: 1000})
			return
		}
	}
	if q.ExpectedOffset != NoExpectedOffset && q.ExpectedOffset != l.tail.offset {
		r.deny(env, q, &Error{Reason: ReasonExpectedOffset, Message: fmt.Sprintf("the partition's next offset is %d, not %d: read up to it and decide again", l.tail.offset, q.ExpectedOffset), HighWatermark: l.tail.offset})
		return
	}
	r.appendBatch(env, q)
}

// stillRefused is the reason that b must get because a batch before it was refused: of this partition in this step, or of the same
// producer and not resent yet. So order as sent holds (architecture D2).
func (l *leadership) stillRefused(b record.Batch) *Error {
	id := b.ProducerID()
	if id >= 0 {
		if seq, ok := l.refusedFrom[id]; ok && b.BaseSequence() != seq {
			if v, _ := l.known.judge(b); v == verdictGap {
				return &Error{Reason: ReasonOverloaded, Message: fmt.Sprintf("batch with sequence %d of this producer was refused before: resend from there", seq), RetryAfterMs: 5}
			}
		}
	}
	if l.refused != nil {
		l.refuse(b, l.refused)
	}
	return l.refused
}

func (l *leadership) refuse(b record.Batch, err *Error) {
	l.refused = err
	if id := b.ProducerID(); id >= 0 {
		if l.refusedFrom == nil {
			l.refusedFrom = map[int64]int32{}
		}
		if _, ok := l.refusedFrom[id]; !ok && len(l.refusedFrom) < producersMax {
			l.refusedFrom[id] = b.BaseSequence()
		}
	}
}

// appendBatch stamps the batch and proposes it. The tail moves only if the core took the proposal.
func (r *Replica) appendBatch(env *Env, q *Request) {
	l, b := &r.lead, q.Batch
	if r.growthBlocked() {
		err := r.underRepair()
		l.refuse(b, err)
		env.fail(q, err)
		return
	}
	if err := r.noRoom(env); err != nil {
		env.Stats.DiskRefused++
		l.refuse(b, err)
		env.fail(q, err)
		return
	}
	e := envelope{kind: segment.KindData, appendTime: r.appendTimeNow(env)}
	if r.config.LogAppendTime {
		b.SetLogAppendTime(e.appendTime)
	}
	b.Stamp(l.tail.offset, int32(r.hard.Term))
	if err := r.node.Propose(e.encode(make([]byte, 0, envelopeBytes)), b); err != nil {
		perr := r.proposalError(err)
		l.refuse(b, perr)
		env.fail(q, perr)
		return
	}
	env.Disk.take(int64(len(b)) + entryOverhead)
	index := r.node.BasicStatus().LastIndex
	if b.ProducerID() >= 0 {
		l.known.apply(b, index, e.appendTime)
		delete(l.refusedFrom, b.ProducerID())
	}
	l.inflight = append(l.inflight, pending{index: index, offset: l.tail.offset, appendTime: e.appendTime, waiters: []waiter{{q.From, q.Token, q.Deadline}}, times: env.took(q)})
	l.tail = tail{offset: b.NextOffset(), appendTime: e.appendTime}
}

// appendTimeNow is the replicated time of the next entry: this broker's clock, never before the previous entry's, and never more than
// clockLeadMs from the median of the voters' clocks (architecture D3). Of two clocks that contradict each other the later one counts:
// a record that looks too young lives too long, one that looks too old would be lost.
func (r *Replica) appendTimeNow(env *Env) int64 {
	now := env.Wall
	if env.Clocks != nil {
		var buf [8]uint64
		nodes := r.voterNodes(buf[:0])
		if lower, upper, heard := env.Clocks(nodes); heard > len(nodes)/2 {
			now = max(min(now, lower+clockLeadMs), upper-clockLeadMs)
		}
	}
	return max(now, r.lead.tail.appendTime)
}

// moved reports whether the core has won, lost or changed terms in this step and the replica has not carried that out yet: what it knows of
// the log's tail, and of who leads, is of before, so it proposes nothing.
func (r *Replica) moved() bool {
	s := r.node.BasicStatus()
	return s.HardState.Term != r.hard.Term || (s.SoftState.RaftState == raft.StateLeader) != (r.role == raft.StateLeader)
}

// duplicate answers a retry: at once if the original is applied, together with it if it is in flight.
func (r *Replica) duplicate(env *Env, q *Request, original sequenced) {
	if original.index <= r.applied {
		env.reply(Reply{From: q.From, Token: q.Token, BaseOffset: original.offset, AppendTime: original.appendTime, Duplicate: true,
			LogStart: r.logStart, HighWatermark: r.high, LeaderEpoch: int32(r.hard.Term), Applied: r.applied})
		return
	}
	i, ok := slices.BinarySearchFunc(r.lead.inflight, original.index, func(p pending, index uint64) int {
		switch {
		case p.index < index:
			return -1
		case p.index > index:
			return 1
		}
		return 0
	})
	if !ok { // can't be: what is known and not applied is in flight
		env.fail(q, r.notLeader(OutcomeUnknown))
		return
	}
	r.lead.inflight[i].waiters = append(r.lead.inflight[i].waiters, waiter{q.From, q.Token, q.Deadline})
}

// deny answers err once the tail that the append was judged against has committed in this term.
func (r *Replica) deny(env *Env, q *Request, err *Error) {
	err.LeaderEpoch = int32(r.hard.Term)
	if r.reads.waiting() >= readsWaitingMax {
		env.fail(q, readsOverloaded())
		return
	}
	r.reads.queued = append(r.reads.queued, Request{From: q.From, Token: q.Token, Group: q.Group, Op: q.Op, Deadline: q.Deadline,
		denied: &denial{index: r.node.BasicStatus().LastIndex, term: r.hard.Term, err: err}})
}

// answerDenied tells what became of an append that was denied, now that a round has ended.
func (r *Replica) answerDenied(env *Env, q *Request) {
	if r.role != raft.StateLeader || r.hard.Term != q.denied.term {
		env.fail(q, r.notLeader(OutcomeFailed))
		return
	}
	env.fail(q, q.denied.err)
}

// proposalError names the core's refusal for a client. A refused proposal certainly has no effect.
func (r *Replica) proposalError(err error) *Error {
	switch {
	case errors.Is(err, raft.ErrUncommittedLimit):
		return &Error{Reason: ReasonOverloaded, Message: fmt.Sprintf("%d bytes wait for a majority already: slow down and retry", r.opts.BytesUncommitted), RetryAfterMs: 20}
	case errors.Is(err, raft.ErrTransferring):
		return &Error{Reason: ReasonNotLeader, Message: "leadership is moving: retry", RetryAfterMs: 10}
	case errors.Is(err, raft.ErrProposalDropped):
		return r.notLeader(OutcomeFailed)
	}
	return &Error{Reason: ReasonInternal, Message: err.Error(), Outcome: OutcomeUnknown}
}

// propose takes a state machine's command. It is answered when it is applied here, whoever leads.
func (r *Replica) propose(env *Env, q *Request) {
	if r.opts.Machine == nil {
		env.fail(q, &Error{Reason: ReasonInvalid, Message: "a data partition takes no commands"})
		return
	}
	id, ok := r.opts.Machine.RequestID(q.Command)
	if !ok {
		env.fail(q, &Error{Reason: ReasonInvalid, Message: "malformed command"})
		return
	}
	if err := r.proposeCommand(env, q.Command); err != nil {
		env.fail(q, err)
		return
	}
	r.results[id] = append(r.results[id], waiter{q.From, q.Token, q.Deadline})
}

func (r *Replica) proposeCommand(env *Env, command []byte) *Error {
	if r.role == raft.StateLeader && !r.lead.ready || r.moved() {
		return &Error{Reason: ReasonNotReady, Message: "the new leader has not committed in its term yet: retry", RetryAfterMs: 10}
	}
	if r.role == raft.StateLeader && r.growthBlocked() {
		return r.underRepair()
	}
	e := envelope{kind: segment.KindCommand, appendTime: r.appendTimeNow(env)} // a follower's time is replaced by its leader
	if err := r.node.Propose(e.encode(make([]byte, 0, envelopeBytes)), command); err != nil {
		return r.proposalError(err)
	}
	if r.role == raft.StateLeader {
		r.lead.tail.appendTime = e.appendTime
	}
	return nil
}

// proposeForwarded takes a follower's proposal: the leader gives it the append time, as everywhere (architecture D3). A proposal
// that can't be taken is dropped; who waits for it asks again.
func (r *Replica) proposeForwarded(env *Env, m raft.Message) {
	if r.opts.Machine == nil || r.role != raft.StateLeader {
		return
	}
	for i := range m.Entries {
		e, ok, err := decodeEnvelope(m.Entries[i].Context)
		if m.Entries[i].Type != raft.EntryNormal || err != nil || !ok || e.kind != segment.KindCommand {
			return
		}
		if r.proposeCommand(env, m.Entries[i].Data) != nil {
			return
		}
	}
}

// resolve answers who waited for the entry at index, which is applied.
func (r *Replica) resolve(env *Env, index uint64) {
	l := &r.lead
	if n := len(l.inflight); n > 0 && l.inflight[0].index == index {
		l.noteApplied(env)
		p := l.inflight[0]
		for _, w := range p.waiters {
			env.reply(Reply{From: w.from, Token: w.token, BaseOffset: p.offset, AppendTime: p.appendTime,
				LogStart: r.logStart, HighWatermark: r.high, LeaderEpoch: int32(r.hard.Term), Applied: index, At: env.Now})
		}
		l.inflight[0] = pending{}
		if l.inflight = l.inflight[1:]; len(l.inflight) == 0 {
			l.inflight = nil
		}
	}
	r.resolveOwn(env)
}

// leaderLost answers everything that only this leader could have answered. What was proposed may still commit: its outcome is
// unknown, never failed.
func (r *Replica) leaderLost(env *Env, reason Reason) {
	errFor := func(o Outcome) *Error {
		e := r.notLeader(o)
		if reason != ReasonNotLeader {
			e = &Error{Reason: reason, Message: "the replica stopped: ask another", Outcome: o}
		}
		return e
	}
	for _, p := range r.lead.inflight {
		for _, w := range p.waiters {
			env.reply(Reply{From: w.from, Token: w.token, Err: errFor(OutcomeUnknown)})
		}
	}
	r.reads.takeDenied(func(q *Request) { env.fail(q, errFor(OutcomeFailed)) })
	for _, o := range r.lead.own {
		env.reply(Reply{From: o.from, Token: o.token, Err: errFor(OutcomeUnknown)})
	}
	r.lead = leadership{}
}
