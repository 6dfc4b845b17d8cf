package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"lograft/internal/buffers"
	"lograft/raft"
	"lograft/segment"
)

// Bounds of what waits for a read answer in one replica (architecture D19). More is refused with ReasonOverloaded.
const (
	readsWaitingMax  = 100_000
	fetchBytesMax    = 8 << 20
	fetchBytesLowest = 1
)

// reads is everything that waits for an answer about this replica's log. A request is in exactly one of the four places:
//
//	queued -> asked (one ReadIndex round for all that were queued before it) -> unapplied -> answered or parked (long poll)
type reads struct {
	queued    []Request
	asked     []Request
	askedCtx  uint64
	unapplied []confirmed
	parked    []parkedFetch
	// cold counts the fetches whose records are being read off the worker.
	cold    int
	nextCtx uint64
}

// confirmed is a read whose claim about the end becomes true once index is applied here.
type confirmed struct {
	Request
	index uint64
}

// parkedFetch is a long poll at the end of the log: its round is paid, it waits for commits until its deadline.
type parkedFetch struct {
	Request
	confirmed bool
}

func (s *reads) waiting() int {
	return len(s.queued) + len(s.asked) + len(s.unapplied) + len(s.parked) + s.cold
}

func (s *reads) cancel(from uint64) {
	gone := func(q Request) bool { return q.From == from }
	s.queued = slices.DeleteFunc(s.queued, gone)
	s.asked = slices.DeleteFunc(s.asked, gone)
	s.unapplied = slices.DeleteFunc(s.unapplied, func(c confirmed) bool { return c.From == from })
	s.parked = slices.DeleteFunc(s.parked, func(p parkedFetch) bool { return p.From == from })
}

// takeDenied takes the denied appends out of the waiting reads.
func (s *reads) takeDenied(each func(*Request)) {
	denied := func(q Request) bool {
		if q.denied == nil {
			return false
		}
		each(&q)
		return true
	}
	s.queued = slices.DeleteFunc(s.queued, denied)
	s.asked = slices.DeleteFunc(s.asked, denied)
	s.unapplied = slices.DeleteFunc(s.unapplied, func(c confirmed) bool { return denied(c.Request) })
}

func readsOverloaded() *Error {
	return &Error{Reason: ReasonOverloaded, Message: fmt.Sprintf("%d reads wait at this replica: retry later or elsewhere", readsWaitingMax), RetryAfterMs: 50}
}

// read answers what can be answered now and queues the rest. What is below the applied point is immutable and served at once; a
// round is paid where the answer claims the end (architecture D14).
func (r *Replica) read(env *Env, q *Request) {
	if r.reads.waiting() >= readsWaitingMax {
		env.fail(q, readsOverloaded())
		return
	}
	q.MaxBytes = min(max(q.MaxBytes, fetchBytesLowest), fetchBytesMax)
	switch {
	case r.catchingUp() && q.Consistency == Linearizable:
		r.reads.queued = append(r.reads.queued, *q)
	case r.catchingUp() || q.Consistency == Session && q.Session > r.applied:
		q.Consistency, q.Session = Session, max(q.Session, r.openedAt)
		r.reads.unapplied = append(r.reads.unapplied, confirmed{*q, q.Session})
	case q.Op == OpFetch && q.Offset >= r.logStart && q.Offset < r.high:
		r.serve(env, q, false)
	case q.Op == OpListOffset && q.Which == EarliestOffset:
		r.answerEnd(env, q, false)
	case q.Consistency == Linearizable:
		r.reads.queued = append(r.reads.queued, *q)
	default:
		r.answerEnd(env, q, false)
	}
}

// catchingUp reports whether the replica has yet to apply what it knew as committed before its restart: a log start that it showed
// then must not be unseen now. While damage keeps it from that, it serves what it has.
func (r *Replica) catchingUp() bool { return r.applied < r.openedAt && len(r.log.Faulty()) == 0 }

// serve answers a fetch of records below the high watermark, from memory or through a cold read.
func (r *Replica) serve(env *Env, q *Request, highConfirmed bool) {
	frames, err := r.log.ReadOffset(r.st.frames[:0], q.Offset, r.high, q.MaxBytes)
	if errors.Is(err, segment.ErrCold) {
		r.readCold(env, q, r.log.ColdRead(q.Offset, r.high, q.MaxBytes), highConfirmed)
		return
	}
	r.st.frames = frames
	r.answerFetch(env, q, frames, nil, err, highConfirmed)
}

// readCold has a read done off the worker for a request.
func (r *Replica) readCold(env *Env, q *Request, task *segment.ReadTask, highConfirmed bool) {
	r.reads.cold++
	if q.Borrow {
		task.Buffers = env.Buffers
	}
	asked := *q
	r.offWorker(env, &ColdRead{Task: task, fetch: &asked, highConfirmed: highConfirmed})
}

// answerFetch answers with frames. lent, their memory if it is not nil, is the reply's from here on.
func (r *Replica) answerFetch(env *Env, q *Request, frames []segment.Frame, lent *buffers.Loan, err error, highConfirmed bool) {
	if err != nil {
		lent.Free()
		env.fail(q, r.readError(q, err))
		return
	}
	a := r.endReply(q, highConfirmed)
	a.Lent = lent
	if n := len(frames); n > 0 {
		a.AppendTime = frames[0].AppendTime
		a.Batches = make([][]byte, n)
		for i := range frames {
			a.Batches[i] = frames[i].Payload
			a.Bytes += len(frames[i].Payload)
		}
	}
	env.reply(a)
}

func (r *Replica) readError(q *Request, err error) *Error {
	switch {
	case errors.Is(err, segment.ErrFaulty):
		return &Error{Reason: ReasonFaulty, Message: fmt.Sprintf("these records are damaged on this broker (%v): read them from another replica", err)}
	case errors.As(err, new(*segment.OutOfRangeError)):
		return r.outOfRange(q.Offset)
	}
	return &Error{Reason: ReasonInternal, Message: err.Error()}
}

// skippedRetryMs is when a client whose read was not done may ask again.
const skippedRetryMs = 50

// ReadDone takes a cold read back, done.
func (r *Replica) ReadDone(env *Env, c *ColdRead) {
	r.reading--
	if r.fatal != nil {
		if c.fetch != nil {
			c.Task.Lent.Free()
			env.fail(c.fetch, r.halted())
		}
		return
	}
	switch {
	case c.work != nil:
		c.then(env)
		return
	case c.verify != nil:
		r.verified(env, c)
		return
	}
	r.suspect(env, c.Task.Err)
	switch {
	case c.repair != nil:
		r.damage.serving--
		r.repairRead(env, c.peer, c.repair, c.Task.Frames, c.Task.Err)
		return
	case c.fetch == nil:
		if c.Task.Err == nil {
			r.st.fetched = append(r.st.fetched, fetchedRange{context: c.context, frames: c.Task.Frames})
		}
		r.node.OnEntriesFetched(c.context)
		return
	}
	r.reads.cold--
	if c.skipped {
		env.fail(c.fetch, &Error{Reason: ReasonOverloaded, RetryAfterMs: skippedRetryMs, Message: "answers that are not sent yet hold as much of this broker's memory as limits.bytes-in-flight allows: read them, and retry"})
		return
	}
	if errors.Is(c.Task.Err, segment.ErrStale) {
		c.Task.Lent.Free()
		r.read(env, c.fetch) // what it read was replaced meanwhile, by a snapshot or a new leader
		return
	}
	if c.fetch.Op != OpFetch {
		r.answerOffset(env, c)
		return
	}
	r.answerFetch(env, c.fetch, c.Task.Frames, c.Task.Lent, c.Task.Err, c.highConfirmed)
}

func (r *Replica) endReply(q *Request, highConfirmed bool) Reply {
	return Reply{From: q.From, Token: q.Token, LogStart: r.logStart, HighWatermark: r.high, HighConfirmed: highConfirmed,
		LeaderEpoch: int32(r.hard.Term), Applied: r.applied}
}

// answerEnd answers a read from the applied state as it is now. highConfirmed says that a round paid for it.
func (r *Replica) answerEnd(env *Env, q *Request, highConfirmed bool) {
	a := r.endReply(q, highConfirmed)
	switch q.Op {
	case OpBarrier:
	case OpQuery:
		if r.asks.coordinator == nil {
			env.fail(q, &Error{Reason: ReasonInvalid, Message: "this group answers no queries"})
			return
		}
		a.Answer = r.asks.coordinator.Query(q.Ask)
	case OpListOffset:
		switch q.Which {
		case EarliestOffset:
			a.BaseOffset = r.logStart
		case LatestOffset:
			a.BaseOffset = r.high
		case OffsetAtTime:
			r.readCold(env, q, r.log.SeekTime(q.Offset), highConfirmed)
			return
		default:
			env.fail(q, &Error{Reason: ReasonInvalid, Message: fmt.Sprintf("unknown kind of offset %d", q.Which)})
			return
		}
	case OpEpochEnd:
		r.answerEpoch(env, q, highConfirmed)
		return
	case OpFetch:
		switch {
		case q.Offset < r.logStart || q.Offset > r.high:
			if q.Consistency != Linearizable && q.Offset > r.high && env.Now < q.Deadline {
				r.reads.parked = append(r.reads.parked, parkedFetch{*q, highConfirmed}) // may just not be here yet
				return
			}
			env.fail(q, r.outOfRange(q.Offset))
			return
		case q.Offset < r.high:
			r.serve(env, q, highConfirmed)
			return
		case env.Now < q.Deadline && q.MinBytes > 0:
			r.reads.parked = append(r.reads.parked, parkedFetch{*q, highConfirmed})
			return
		}
	}
	env.reply(a)
}

func (r *Replica) outOfRange(offset int64) *Error {
	return &Error{Reason: ReasonOutOfRange, Message: fmt.Sprintf("offset %d: the partition holds [%d, %d): start at one of these or at start/end", offset, r.logStart, r.high),
		LogStart: r.logStart, HighWatermark: r.high, LeaderEpoch: int32(r.hard.Term)}
}

// askRound starts one ReadIndex round for everything queued, if none is under way: one round serves all that were queued before it.
func (r *Replica) askRound(env *Env) {
	s := &r.reads
	if len(s.queued) == 0 || len(s.asked) > 0 {
		return
	}
	s.nextCtx++
	if err := r.node.ReadIndex(binary.LittleEndian.AppendUint64(nil, s.nextCtx)); err != nil {
		return // outstanding Ready or poisoned: asked again after the next one
	}
	s.askedCtx = s.nextCtx
	s.asked, s.queued = s.queued, s.asked[:0]
}

// roundDone takes the answer of the round under way: its reads are true once index is applied.
func (r *Replica) roundDone(env *Env, rs raft.ReadState) {
	s := &r.reads
	if len(rs.RequestCtx) != 8 || binary.LittleEndian.Uint64(rs.RequestCtx) != s.askedCtx {
		return
	}
	env.Stats.ReadRounds++
	env.Stats.ReadsConfirmed += uint64(len(s.asked))
	for i := range s.asked {
		index := rs.Index
		if d := s.asked[i].denied; d != nil {
			index = max(index, d.index)
		}
		s.unapplied = append(s.unapplied, confirmed{s.asked[i], index})
	}
	clear(s.asked)
	s.asked = s.asked[:0]
}

// roundDropped puts the reads of a round that ended without an answer back in front: they ask again until their deadlines.
func (r *Replica) roundDropped(d raft.DroppedRead) {
	s := &r.reads
	if len(d.RequestCtx) != 8 || binary.LittleEndian.Uint64(d.RequestCtx) != s.askedCtx {
		return
	}
	s.queued = append(s.asked, s.queued...)
	s.asked = nil
}

// advanceReads answers what the applied index has made answerable.
func (r *Replica) advanceReads(env *Env) {
	s := &r.reads
	if len(s.unapplied) > 0 {
		waiting := s.unapplied
		s.unapplied = s.unapplied[:0:0]
		for i := range waiting {
			c := &waiting[i]
			if c.index > r.applied {
				s.unapplied = append(s.unapplied, *c)
				continue
			}
			if c.denied != nil {
				r.answerDenied(env, &c.Request)
				continue
			}
			if c.Consistency == Session {
				c.Consistency, c.Session = Committed, 0
				r.answerEnd(env, &c.Request, false)
				continue
			}
			r.answerEnd(env, &c.Request, true)
		}
	}
	if len(s.parked) > 0 {
		waiting := s.parked
		s.parked = s.parked[:0:0]
		for i := range waiting {
			p := &waiting[i]
			if p.Offset >= r.high {
				s.parked = append(s.parked, *p)
				continue
			}
			r.serve(env, &p.Request, p.confirmed)
		}
	}
}

// expire answers every request whose deadline passed: a parked fetch with an empty answer, whose round was paid; a claim that could
// not be confirmed with the reason.
func (r *Replica) expire(env *Env) {
	s := &r.reads
	due := func(q *Request) bool { return q.Deadline <= env.Now }
	s.parked = slices.DeleteFunc(s.parked, func(p parkedFetch) bool {
		if !due(&p.Request) {
			return false
		}
		if p.Offset > r.high {
			env.fail(&p.Request, r.outOfRange(p.Offset))
		} else {
			env.reply(r.endReply(&p.Request, p.confirmed))
		}
		return true
	})
	unconfirmed := func(q Request) bool {
		if !due(&q) {
			return false
		}
		env.fail(&q, r.unconfirmed())
		return true
	}
	s.queued = slices.DeleteFunc(s.queued, unconfirmed)
	s.asked = slices.DeleteFunc(s.asked, unconfirmed)
	s.unapplied = slices.DeleteFunc(s.unapplied, func(c confirmed) bool { return unconfirmed(c.Request) })
	r.expireWrites(env)
}

func (r *Replica) unconfirmed() *Error {
	if r.leader == 0 {
		return &Error{Reason: ReasonUnavailable, Message: "no quorum: no leader is known, so the end of the log can't be confirmed: a majority of the partition's brokers is unreachable from here; " +
			"see broker cluster health, or read with --consistency committed what this replica knows", LeaderEpoch: int32(r.hard.Term)}
	}
	return &Error{Reason: ReasonTimeout, Message: fmt.Sprintf("replica %d on node %d did not confirm the end of the log in time: retry, or read another replica", r.leader, r.nodeOf(r.leader)),
		Leader: r.leader, LeaderNode: r.nodeOf(r.leader), LeaderEpoch: int32(r.hard.Term)}
}

// expireWrites answers writes that a majority did not confirm in time. They may still commit: the outcome is unknown.
func (r *Replica) expireWrites(env *Env) {
	late := func(o Outcome) func(w waiter) bool {
		return func(w waiter) bool {
			if w.deadline > env.Now {
				return false
			}
			env.reply(Reply{From: w.from, Token: w.token, Err: &Error{Reason: ReasonTimeout, Outcome: o, Message: "a majority of the replicas did not confirm in time: retry with the same producer and sequence"}})
			return true
		}
	}
	for i := range r.lead.inflight {
		r.lead.inflight[i].waiters = slices.DeleteFunc(r.lead.inflight[i].waiters, late(OutcomeUnknown))
	}
	r.lead.own = slices.DeleteFunc(r.lead.own, func(o own) bool { return late(OutcomeUnknown)(o.waiter) })
	for _, id := range sortedIDs(r.results) {
		if ws := slices.DeleteFunc(r.results[id], late(OutcomeUnknown)); len(ws) == 0 {
			delete(r.results, id)
		} else {
			r.results[id] = ws
		}
	}
}

func sortedIDs(m map[[16]byte][]waiter) [][16]byte {
	if len(m) == 0 {
		return nil
	}
	ids := make([][16]byte, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// failReads answers every waiting read and command with reason: the replica stops.
func (r *Replica) failReads(env *Env, reason Reason) {
	s := &r.reads
	stop := &Error{Reason: reason, Message: "the replica stopped: ask another"}
	for _, list := range [][]Request{s.queued, s.asked} {
		for i := range list {
			env.fail(&list[i], stop)
		}
	}
	for i := range s.unapplied {
		env.fail(&s.unapplied[i].Request, stop)
	}
	for i := range s.parked {
		env.fail(&s.parked[i].Request, stop)
	}
	r.reads = reads{nextCtx: s.nextCtx}
	unknown := *stop
	unknown.Outcome = OutcomeUnknown
	for _, id := range sortedIDs(r.results) {
		for _, w := range r.results[id] {
			env.reply(Reply{From: w.from, Token: w.token, Err: &unknown})
		}
	}
	clear(r.results)
}
