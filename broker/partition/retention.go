package partition

import (
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// kindCommand is the kind of a data partition's own commands.
const kindCommand = segment.KindCommand

// Timing of a leader's housekeeping, in ticks and ms.
const (
	retentionTicks    = 10  // the log is looked at
	expiryTicks       = 300 // the producer table is looked at
	clockLeadMs       = 5000
	producerIdleMs    = 24 * 3600 * 1000 // as Kafka's producer.id.expiration.ms
	producerCrowdedMs = 15 * 60 * 1000   // when the table is over half full; longer than any delivery timeout
	producerReleaseMs = 2 * 60 * 1000    // of a released one: longer than a copy of its last batch can be on its way
)

// housekeeping is what a leader remembers between two looks at its log.
type housekeeping struct {
	ticks     int
	extents   []segment.Extent // scratch
	trimIndex uint64           // of the last trim proposed
	openBase  uint64           // the open segment, and since when (judged time, ms) it was seen with records
	openSince int64
	rolled    uint64 // base of the segment that a roll was proposed for
	expiry    uint64 // index of the last expiry proposed
	crowded   bool   // a producer was refused because the table is full
}

// houseTick lets a leader look after its log now and then. It reports whether it proposed something.
func (r *Replica) houseTick(env *Env) (proposed bool) {
	r.syncTrim()
	r.dropSegments(env)
	proposed = r.persist.trim
	if !r.lead.ready {
		return proposed
	}
	h := &r.lead.house
	h.ticks++
	if r.opts.Machine != nil {
		return h.ticks%retentionTicks == 0 && r.compact() || proposed
	}
	proposed = r.proposeConfig() || proposed
	expire := h.ticks%expiryTicks == 0 || h.crowded && h.expiry <= r.applied
	if h.ticks%retentionTicks != 0 && !expire {
		return proposed
	}
	now, ok := r.judgedTime(env)
	if h.ticks%retentionTicks == 0 {
		proposed = r.retain(now, ok) || proposed
	}
	if expire && ok {
		proposed = r.expireProducers(now) || proposed
	}
	return proposed
}

// judgedTime is the time (ms) that ages are counted to: none without a majority of the voters' clocks (architecture D3), never after the
// true one as long as half of those heard are right. Append times are at most clockLeadMs before the median of the clocks, so that much
// is taken off: what looks old enough is.
func (r *Replica) judgedTime(env *Env) (ms int64, ok bool) {
	var buf [8]uint64
	nodes := r.voterNodes(buf[:0])
	if env.Clocks == nil {
		return 0, false
	}
	lower, _, heard := env.Clocks(nodes)
	return lower - clockLeadMs, heard > len(nodes)/2
}

// retain proposes a new log start if whole segments are too old or too many, the end of an open segment that nobody would end
// otherwise, and the removal of segments that an earlier log start left behind. Without a judged time (ok false) nothing is too old.
func (r *Replica) retain(now int64, ok bool) (proposed bool) {
	h := &r.lead.house
	if h.trimIndex > r.applied {
		return false // one at a time
	}
	h.extents = r.log.Extents(h.extents[:0])
	if len(h.extents) == 0 {
		return false
	}
	aged := ok && r.config.RetentionMs >= 0
	start, dropTo := r.cut(h.extents, r.trim.start, now, aged)
	if start > r.trim.start || dropTo > r.trim.dropTo && dropTo >= r.log.FirstIndex() {
		_, err := r.proposeTrim(start, dropTo)
		proposed = err == nil
	}
	return r.rollIdle(&h.extents[len(h.extents)-1], start, now, aged) || proposed
}

// sealedKept is how many sealed segments a group with a state machine keeps: each ends with a checkpoint of the whole state.
const sealedKept = 2

// compact proposes that old segments of a group with a state machine go: their effect is in the checkpoint of a later one.
func (r *Replica) compact() bool {
	h := &r.lead.house
	if h.trimIndex > r.applied {
		return false
	}
	h.extents = r.log.Extents(h.extents[:0])
	sealed := 0
	for sealed < len(h.extents) && h.extents[sealed].Sealed {
		sealed++
	}
	var dropTo uint64
	for i := range sealed - sealedKept {
		dropTo = h.extents[i].Last
	}
	if dropTo <= r.trim.dropTo || dropTo < r.log.FirstIndex() {
		return false
	}
	_, err := r.proposeTrim(0, dropTo)
	return err == nil
}

// cut is the log start, at least start, and the last index of the newest segment that may go with it. A replica that lacks its entries is
// filled with a snapshot.
func (r *Replica) cut(extents []segment.Extent, start, now int64, aged bool) (_ int64, dropTo uint64) {
	var total int64
	for i := range extents {
		total += extents[i].Bytes
	}
	for i := range extents {
		x := &extents[i]
		if !x.Closed || x.Last > r.applied {
			break
		}
		old := aged && x.LastTime < now-r.config.RetentionMs
		large := r.config.RetentionBytes >= 0 && total-x.Bytes >= r.config.RetentionBytes
		if x.NextOffset > start && !old && !large {
			break
		}
		start, dropTo = max(start, x.NextOffset), x.Last
		total -= x.Bytes
	}
	return start, dropTo
}

func (r *Replica) proposeTrim(start int64, dropTo uint64) (index uint64, err *Error) {
	if index, err = r.proposeOwn(kindCommand, command{commandTrim, uint64(start), dropTo}.encode()); err == nil {
		r.lead.house.trimIndex = index
	}
	return index, err
}

// rollIdle ends the open segment if all of it is given up or too old, or if it has been open for a whole retention time: a record
// whose segment never fills goes at the latest after twice its time.
func (r *Replica) rollIdle(x *segment.Extent, start, now int64, aged bool) bool {
	h := &r.lead.house
	if x.Closed || x.NextOffset == x.BaseOffset || h.rolled == x.Base {
		return false
	}
	if h.openBase != x.Base {
		h.openBase, h.openSince = x.Base, now
	}
	limit := now - r.config.RetentionMs
	if x.NextOffset > start && !(aged && (x.LastTime < limit || h.openSince < limit)) {
		return false
	}
	if _, err := r.proposeOwn(segment.KindRoll, nil); err != nil {
		return false
	}
	h.rolled = x.Base
	return true
}

// trimTo carries out OpTrim: records before q.Offset are given up.
func (r *Replica) trimTo(env *Env, q *Request) {
	switch {
	case r.opts.Machine != nil:
		env.fail(q, &Error{Reason: ReasonInvalid, Message: "this group holds no records"})
		return
	case !r.mayPropose(env, q):
		return
	}
	start := q.Offset
	if start == TrimAll {
		start = r.high
	}
	switch {
	case start > r.high || start < 0:
		err := r.outOfRange(start)
		err.Message = fmt.Sprintf("log start %d: the partition holds [%d, %d): name an offset up to its end", start, r.logStart, r.high)
		env.fail(q, err)
		return
	case start <= r.logStart:
		env.reply(Reply{From: q.From, Token: q.Token, LogStart: r.logStart, HighWatermark: r.high, LeaderEpoch: int32(r.hard.Term), Applied: r.applied})
		return
	}
	h := &r.lead.house
	h.extents = r.log.Extents(h.extents[:0])
	start, dropTo := r.cut(h.extents, start, 0, false) // further, if retention.bytes says so anyway
	r.command(env, q, command{commandTrim, uint64(start), dropTo})
}

// mayPropose reports whether this replica leads and has applied everything before its term; else it has answered q.
func (r *Replica) mayPropose(env *Env, q *Request) bool {
	switch {
	case r.role != raft.StateLeader:
		env.fail(q, r.notLeader(OutcomeFailed))
	case !r.lead.ready:
		env.fail(q, &Error{Reason: ReasonNotReady, Message: "the new leader has not committed in its term yet: retry", LeaderEpoch: int32(r.hard.Term), Leader: r.leader, LeaderNode: r.nodeOf(r.leader), RetryAfterMs: 10})
	default:
		return true
	}
	return false
}
