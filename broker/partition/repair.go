package partition

import (
	"errors"
	"fmt"
	"slices"

	"lograft/raft"
	"lograft/segment"
)

// Bounds and pace of repair. Ticks are those of the core.
const (
	repairBytesPerAnswer = 1 << 20
	repairBytesMax       = 128 << 20 // of one damaged range while it is fetched
	repairServingMax     = 4         // cold reads for peers at a time; what is asked beyond is not answered
	repairAnswerTicks    = 10        // then another peer is asked
	repairWaitTicksMax   = 100       // between two rounds in which nobody could help
)

// damage is what this replica can't read of its log, and its repair from peers (storage.md "FAULTY"). One range is fetched at a time,
// with one question under way; retries come from Tick.
type damage struct {
	ranges []segment.FaultyRange // as of the last look
	// lastUnknown: damage hides the log's last (index, term). Until it is overwritten or repaired no vote is granted.
	lastUnknown bool

	token  uint64 // of the last question
	asked  bool   // and no answer yet
	peer   uint64 // replica id that was asked last
	at     int    // which range is fetched
	frames []segment.Frame
	bytes  int
	failed int // peers in a row that could not help
	rounds int // rounds over all ranges and peers in a row in which nobody could help
	ticks  int // until the next question, or until the one asked counts as lost
	hopes  []hope
	// gone is the first entry of a damaged range that the leader has given up, 0: none. Where this replica can't go on without it, it asks
	// for a snapshot in the place of its log.
	gone   uint64
	cut    uint64 // entry that a leader replaces and whose predecessor is damaged here, so that it can't be taken; 0: none
	wanted bool   // the core was told so

	verify  *ColdRead // a segment being checked because a read met damage
	serving int       // cold reads for peers under way
	entries uint64    // repaired since the start
}

// hope is a range that can't be repaired entry by entry, so that it is not asked for again and again.
type hope struct {
	from uint64
	err  error
}

// Damaged are the entries that this replica holds and can't read, oldest first. The slice is the replica's.
func (r *Replica) Damaged() []segment.FaultyRange { return r.damage.ranges }

// lookForDamage follows the log's damaged ranges: a damaged replica stands for no election and gives leadership away.
func (r *Replica) lookForDamage(env *Env) {
	now := r.log.Faulty()
	d := &r.damage
	if len(now) == 0 && len(d.ranges) == 0 {
		return
	}
	grown := false
	for i := range now {
		if !slices.ContainsFunc(d.ranges, func(o segment.FaultyRange) bool { return o.From == now[i].From && o.To == now[i].To }) {
			r.note(env, Note{Kind: NoteDamaged, Range: now[i]})
			grown = true
		}
	}
	same := !grown && len(now) == len(d.ranges)
	d.ranges = now
	d.lastUnknown = r.lastIsUnknown()
	if same {
		return
	}
	r.dropSources(func(s *segment.SegmentSummary) bool {
		return slices.ContainsFunc(now, func(f segment.FaultyRange) bool { return f.From <= s.Last && (f.To == 0 || f.To >= s.Base) })
	})
	r.node.SetElectable(r.electable())
	d.asked, d.at, d.failed, d.rounds, d.ticks, d.frames, d.bytes, d.cut = false, 0, 0, 0, 0, nil, 0, 0
	d.hopes = slices.DeleteFunc(d.hopes, func(h hope) bool {
		return !slices.ContainsFunc(now, func(f segment.FaultyRange) bool { return f.From == h.from })
	})
	if grown {
		r.TransferAway()
	}
}

// lastIsUnknown reports whether the log's end is damage of which no mark and no good frame says what was there.
func (r *Replica) lastIsUnknown() bool {
	last := r.log.LastIndex()
	if _, err := r.log.Term(last); err != nil {
		return true
	}
	return slices.ContainsFunc(r.damage.ranges, func(f segment.FaultyRange) bool { return f.To == 0 || f.From > last })
}

// silent reports whether damage forbids to send m: a damaged replica accepts nothing, because what it says it holds it could not give
// back. Heartbeats and rejections go on.
func (r *Replica) silent(m *raft.Message) bool {
	return len(r.damage.ranges) > 0 && m.Type == raft.MsgAppendResponse && !m.Reject
}

// deaf reports whether damage forbids to take m: no vote while the log's end is unknown or a lost log is being refilled, and no entries
// that the log can't place. The sender retries.
func (r *Replica) deaf(env *Env, m *raft.Message) bool {
	switch m.Type {
	case raft.MsgRequestVote, raft.MsgRequestPreVote:
		return len(r.damage.ranges) > 0 && r.damage.lastUnknown || r.refill.on
	case raft.MsgTimeoutNow:
		return r.refill.on
	case raft.MsgAppend:
		return !r.takes(env, m.Entries)
	}
	return false
}

// takes reports whether entries of a leader can be appended to the log, damaged or not: they overwrite from a point whose predecessor is
// good, which may show only now, or grow the log behind a segment that is whole.
func (r *Replica) takes(env *Env, entries []raft.Entry) bool {
	last := r.log.LastIndex()
	for i := range entries {
		index := entries[i].Index
		if index > last {
			return !r.growthBlocked()
		}
		term, err := r.log.Term(index)
		if err == nil && term != entries[i].Term {
			_, err := r.log.FrameAt(index - 1)
			r.suspect(env, err)
			if err == nil || len(r.damage.ranges) == 0 && !errors.Is(err, segment.ErrFaulty) {
				return true
			}
			r.damage.cut = index
			return false
		}
	}
	return true
}

// growthBlocked reports whether damage hides what the next frame continues, or the hash that the next segment's header needs.
func (r *Replica) growthBlocked() bool {
	base, last := r.log.DurableMark().SegmentBase, r.log.LastIndex()
	return slices.ContainsFunc(r.damage.ranges, func(f segment.FaultyRange) bool {
		return f.From <= last && (f.To == 0 || f.To >= base)
	})
}

// underRepair is why a leader whose log's end is damaged takes no appends.
func (r *Replica) underRepair() *Error {
	return &Error{Reason: ReasonNotReady, RetryAfterMs: 100, Outcome: OutcomeFailed,
		Message: "the end of this leader's log is damaged and under repair from its followers: retry; see broker cluster health"}
}

// replaceLog asks the leader for a snapshot while there is damage that it has given up and without which nothing more can be appended or
// applied here: its entries continue what this replica can't read, or replace what follows that, and nobody has it any more. The wish
// ends with the damage.
func (r *Replica) replaceLog() {
	d := &r.damage
	at := slices.IndexFunc(d.ranges, func(f segment.FaultyRange) bool { return f.From == d.gone })
	if at < 0 {
		d.gone = 0
	}
	want := d.gone > 0 && (d.ranges[at].To > r.applied || r.growthBlocked() || d.cut == d.ranges[at].To+1)
	if want || d.wanted {
		_ = r.node.ReplaceLog(want) // dropped without a leader, or if it was asked already: the next tick asks again
	}
	d.wanted = want
}

// repairTick asks again what was not answered, and after a while for what nobody had.
func (r *Replica) repairTick(env *Env) {
	d := &r.damage
	r.replaceLog()
	if len(d.ranges) == 0 {
		return
	}
	if d.ticks--; d.ticks > 0 {
		return
	}
	if d.asked && r.peerFailed() {
		return
	}
	r.askRepair(env)
}

// askRepair asks the next peer for what is still missing of the range being fetched.
func (r *Replica) askRepair(env *Env) {
	d := &r.damage
	peers := r.repairPeers()
	for tried := 0; len(peers) > 0 && tried < len(d.ranges); tried++ {
		if d.at >= len(d.ranges) {
			d.at = 0
		}
		ask, ok := r.askFor(&d.ranges[d.at])
		if !ok {
			r.nextRange()
			continue
		}
		d.token++
		ask.token = d.token
		if d.peer == 0 || d.failed > 0 || !slices.Contains(peers, d.peer) {
			d.peer = peerAfter(peers, d.peer)
		}
		d.asked, d.ticks = true, repairAnswerTicks
		m := raft.Message{Type: MsgRepairAsk, From: r.opts.ReplicaID, To: d.peer, Context: ask.encode()}
		r.send(env, &m)
		return
	}
	d.asked, d.ticks = false, repairWaitTicksMax
}

// repairPeers are the other replicas, in order of id.
func (r *Replica) repairPeers() (ids []uint64) {
	for _, p := range r.members.peers {
		if p.ReplicaID != r.opts.ReplicaID {
			ids = append(ids, p.ReplicaID)
		}
	}
	slices.Sort(ids)
	return ids
}

func peerAfter(peers []uint64, id uint64) uint64 {
	for _, p := range peers {
		if p > id {
			return p
		}
	}
	return peers[0]
}

// askFor is the question for what is missing of f; ok is false if no entry is known that proves whose entries are the same, or the
// range can't be repaired entry by entry (lost files are not: files.go).
func (r *Replica) askFor(f *segment.FaultyRange) (ask repairAsk, ok bool) {
	if f.To == 0 || f.Lost || f.From > r.log.LastIndex() || slices.ContainsFunc(r.damage.hopes, func(h hope) bool { return h.from == f.From }) {
		return ask, false
	}
	ask = repairAsk{from: f.From + uint64(len(r.damage.frames)), to: f.To, proof: entryRef{index: f.To}}
	if r.damage.lastUnknown && f.To == r.log.LastIndex() {
		return ask, false
	}
	for i := ask.proof.index; i <= r.log.LastIndex(); {
		term, err := r.log.Term(i)
		if err == nil {
			ask.proof = entryRef{i, term}
			_, err := r.tailBefore(f.From)
			return ask, err == nil
		}
		i = max(i, r.damagedUpTo(i)) + 1
	}
	return ask, false
}

// damagedUpTo is the end of the damaged range that holds entry i, 0 if none does.
func (r *Replica) damagedUpTo(i uint64) uint64 {
	for k := range r.damage.ranges {
		if f := &r.damage.ranges[k]; f.From <= i && i <= f.To {
			return f.To
		}
	}
	return 0
}

// nextRange turns to the next damaged range; what was fetched of this one is dropped.
func (r *Replica) nextRange() {
	d := &r.damage
	d.at, d.failed, d.frames, d.bytes = d.at+1, 0, nil, 0
}

// peerFailed notes that the peer asked last could not help. When none could, the next range is tried, and after a round over all of
// them there is a pause that grows.
func (r *Replica) peerFailed() (pause bool) {
	d := &r.damage
	d.asked = false
	d.failed++
	if d.failed < len(r.members.peers)-1 {
		return false
	}
	r.nextRange()
	if d.at < len(d.ranges) {
		return false
	}
	d.rounds++
	d.ticks = min(1<<min(d.rounds, 10), repairWaitTicksMax)
	return true
}

// answerRepair serves a peer's question from this log.
func (r *Replica) answerRepair(env *Env, m *raft.Message) {
	ask, ok := decodeRepairAsk(m.Context)
	if !ok {
		return
	}
	if term, err := r.log.Term(ask.proof.index); err != nil || term != ask.proof.term {
		verdict := repairUnknown
		if errors.Is(err, segment.ErrCompacted) {
			verdict = repairGone // with everything before it
		}
		r.sendRepair(env, m.From, &ask, verdict, nil)
		return
	}
	frames, err := r.log.Entries(r.st.frames[:0], ask.from, ask.to+1, repairBytesPerAnswer)
	if errors.Is(err, segment.ErrCold) {
		if r.damage.serving < repairServingMax {
			r.damage.serving++
			r.offWorker(env, &ColdRead{Task: r.log.ColdEntries(ask.from, ask.to+1, repairBytesPerAnswer), repair: &ask, peer: m.From})
		}
		return
	}
	r.st.frames = frames[:0]
	r.repairRead(env, m.From, &ask, frames, err)
}

// repairRead sends what was read for a peer.
func (r *Replica) repairRead(env *Env, peer uint64, ask *repairAsk, frames []segment.Frame, err error) {
	if err != nil {
		verdict := repairMissing
		if errors.Is(err, segment.ErrCompacted) {
			verdict = repairGone
		}
		r.sendRepair(env, peer, ask, verdict, nil)
		return
	}
	r.sendRepair(env, peer, ask, repairHeld, entriesOf(nil, frames))
}

func (r *Replica) sendRepair(env *Env, to uint64, ask *repairAsk, v repairVerdict, entries []raft.Entry) {
	a := repairAnswer{token: ask.token, verdict: v, sum: sumOfEntries(entries)}
	m := raft.Message{Type: MsgRepairAnswer, From: r.opts.ReplicaID, To: to, Context: a.encode(), Entries: entries}
	r.send(env, &m)
}

// takeRepair takes a peer's answer, and writes the range when all of it is here.
func (r *Replica) takeRepair(env *Env, m *raft.Message) {
	d := &r.damage
	a, ok := decodeRepairAnswer(m.Context)
	if !ok || !d.asked || a.token != d.token || m.From != d.peer || d.at >= len(d.ranges) {
		return
	}
	f := d.ranges[d.at]
	if m.From == r.leader && (a.verdict == repairGone || a.verdict == repairUnknown && d.cut == f.To+1) {
		d.gone = f.From // unknown: it replaces the entry that would prove the damaged ones to be its own
	}
	if a.verdict != repairHeld || a.sum != sumOfEntries(m.Entries) || !r.gather(env, &f, m.Entries) {
		if !r.peerFailed() {
			r.askRepair(env)
		}
		return
	}
	d.asked, d.failed = false, 0
	if d.frames[len(d.frames)-1].Index == f.To {
		r.repairRange(env, &f)
		if r.fatal != nil {
			return
		}
	}
	if len(d.ranges) > 0 {
		r.askRepair(env)
	}
}

// gather adds entries of f that follow what is there already. It reports whether there was one, and whether all fit.
func (r *Replica) gather(env *Env, f *segment.FaultyRange, entries []raft.Entry) bool {
	d := &r.damage
	var t tail
	if n := len(d.frames); n > 0 {
		t = tail{offset: d.frames[n-1].NextOffset(), appendTime: d.frames[n-1].AppendTime}
	} else {
		var err error
		if t, err = r.tailBefore(f.From); err != nil {
			return false
		}
	}
	held := len(d.frames)
	for i := range entries {
		e := &entries[i]
		if e.Index != f.From+uint64(len(d.frames)) || e.Index > f.To || checkPayload(e) != nil {
			break
		}
		frame, next, err := frameOf(e, t)
		if err != nil {
			break
		}
		if d.bytes += len(e.Data); d.bytes > repairBytesMax {
			r.giveUp(env, f, fmt.Errorf("it is larger than %d MiB", repairBytesMax>>20))
			return false
		}
		d.frames, t = append(d.frames, frame), next
	}
	return len(d.frames) > held
}

// giveUp notes that f can't be repaired entry by entry.
func (r *Replica) giveUp(env *Env, f *segment.FaultyRange, err error) {
	r.damage.hopes = append(r.damage.hopes, hope{f.From, err})
	r.damage.frames, r.damage.bytes = nil, 0
	r.note(env, Note{Kind: NoteHopeless, Range: *f, Err: err})
}

// repairRange writes the frames of f. That they are the log's is decided by the log: they fill the gap to the byte, and the segment's
// hash where there is one.
func (r *Replica) repairRange(env *Env, f *segment.FaultyRange) {
	d := &r.damage
	frames := d.frames
	d.frames, d.bytes = nil, 0
	err := r.log.Repair(frames)
	switch {
	case err == nil:
		d.rounds = 0
		d.entries += uint64(len(frames))
		r.note(env, Note{Kind: NoteRepaired, Range: *f, Peer: r.nodeOf(d.peer)})
	case errors.Is(err, segment.ErrFaulty), errors.Is(err, segment.ErrBusy):
		// More is damaged than was known, and fetched; or the log has a cut to sync first.
	case errors.Is(err, segment.ErrInvalid):
		r.giveUp(env, f, err)
	default:
		r.halt(env, fmt.Errorf("repair: %w", err))
		return
	}
	r.lookForDamage(env)
}

// suspect checks the segment in which a read met damage that the log did not know of: the check finds out exactly what is bad.
func (r *Replica) suspect(env *Env, err error) {
	if err == nil {
		return
	}
	var fe *segment.FaultyError
	if !errors.As(err, &fe) || r.damage.verify != nil || slices.ContainsFunc(r.damage.hopes, func(h hope) bool { return h.from == fe.Segment }) {
		return
	}
	for i := range r.damage.ranges {
		if f := &r.damage.ranges[i]; f.From <= fe.From && (f.To == 0 || fe.From <= f.To) {
			return
		}
	}
	if r.checkSegment(env, max(fe.Segment, fe.From)) {
		r.st.doubt = fe.From
	}
}

// checkSegment begins to check the segment that holds entry i. false: one is being checked, or there is none.
func (r *Replica) checkSegment(env *Env, i uint64) bool {
	if r.damage.verify != nil {
		return false
	}
	t := r.log.BeginVerify(max(i, r.log.FirstIndex()))
	if t == nil {
		return false
	}
	r.damage.verify = &ColdRead{verify: t}
	r.offWorker(env, r.damage.verify)
	return true
}

// verified takes the check of a segment back.
func (r *Replica) verified(env *Env, c *ColdRead) {
	r.damage.verify, r.st.doubt = nil, 0
	if _, err := r.log.EndVerify(c.verify); err != nil {
		r.halt(env, fmt.Errorf("repair of a header or footer: %w", err))
		return
	}
	if err := c.verify.Err; err != nil {
		r.giveUp(env, &segment.FaultyRange{From: c.verify.Base, To: c.verify.Last, Segment: c.verify.Base, Reason: "it can't be read"}, err)
		return
	}
	r.lookForDamage(env)
	r.repairTick(env)
}
