package raft

import (
	"encoding/binary"
	"errors"

	"lograft/raft/quorum"
)

// becomeLeader begins leading: everything before the election counts as pending, and an empty entry of the new term is appended,
// whatever the limits say: only through it can anything commit (Raft paper §5.4.2, §8).
func (r *raft) becomeLeader() {
	r.reset(r.term)
	r.state, r.leader = StateLeader, r.id
	last := r.log.last()
	r.pendingConf, r.uncommittedFrom = last, last
	r.appendEntry(EntryNormal, nil, nil)
	if p := r.self(); p != nil {
		p.become(ProgressReplicate)
		p.recentActive = true
		p.next = r.log.last() + 1
	}
	r.trace("become_leader", last+1, 0, "")
	r.takeWaitingReads()
}

func (r *raft) tickLeader() {
	r.electionElapsed++
	r.heartbeatElapsed++
	r.snapshotTimeouts()
	if r.electionElapsed >= r.cfg.ElectionTick {
		r.electionElapsed = 0
		for i := range r.peers {
			r.peers[i].fetching = false // should the app have forgotten it
		}
		if r.cfg.CheckQuorum && !r.quorumActive() {
			r.becomeFollower(r.term, 0)
			return
		}
	}
	if r.transferTicks++; r.transferTicks >= r.cfg.ElectionTick {
		r.abortTransfer()
	}
	r.maybeAutoLeave()
	if r.heartbeatElapsed >= r.cfg.HeartbeatTick {
		r.heartbeatElapsed = 0
		r.bcastHeartbeat()
	}
}

// quorumActive reports whether a quorum was heard since the last time it was asked.
func (r *raft) quorumActive() bool {
	var in, out struct{ n, active int }
	for i := range r.peers {
		p := &r.peers[i]
		active := p.recentActive || p.id == r.id
		p.recentActive = p.id == r.id
		if p.incoming {
			in.n++
			if active {
				in.active++
			}
		}
		if p.outgoing {
			out.n++
			if active {
				out.active++
			}
		}
	}
	return quorum.JointVote(quorum.Vote(in.n, in.active, in.n-in.active), quorum.Vote(out.n, out.active, out.n-out.active)) == quorum.VoteWon
}

// snapshotTimeouts frees peers whose snapshot was never reported (rule 9).
func (r *raft) snapshotTimeouts() {
	if r.cfg.SnapshotTimeoutTick == 0 {
		return
	}
	for i := range r.peers {
		p := &r.peers[i]
		if p.state != ProgressSnapshot {
			continue
		}
		if p.snapshotTicks++; p.snapshotTicks >= r.cfg.SnapshotTimeoutTick {
			r.trace("snapshot_timeout", p.pendingSnapshot, p.id, "")
			r.snapshotReported(p, SnapshotFailure)
		}
	}
}

// stepLeader takes what a leader reacts to.
func (r *raft) stepLeader(m *Message) error {
	switch m.Type {
	case MsgAppend, MsgHeartbeat, MsgSnapshot:
		return invalid("%v of %d in term %d, which we lead", m.Type, m.From, m.Term)
	case MsgAppendResponse:
		return r.handleAppendResponse(m)
	case MsgHeartbeatResponse:
		return r.handleHeartbeatResponse(m)
	case MsgTransferLeader:
		r.transferTo(m.From)
	}
	return nil
}

func (r *raft) handleAppendResponse(m *Message) error {
	p := r.peer(m.From)
	if !m.Reject && m.Index > r.log.last() {
		return invalid("%d acknowledges %d, our log ends at %d", m.From, m.Index, r.log.last())
	}
	p.recentActive = true
	p.committed = max(p.committed, min(m.Commit, r.log.last()))
	if m.Reject {
		r.appendRejected(p, m)
		return nil
	}
	wasPaused := p.isPaused()
	if m.Index >= p.pendingRequestSnapshot {
		p.pendingRequestSnapshot = 0 // who waits for a snapshot accepts nothing that reaches so far
	}
	again := p.state == ProgressProbe || p.state == ProgressSnapshot && m.Index >= p.pendingSnapshot
	if !p.acked(m.Index) && !(p.match == m.Index && again) {
		return nil
	}
	switch p.state {
	case ProgressProbe:
		p.becomeReplicate()
	case ProgressSnapshot:
		if p.match+1 >= r.log.firstIndex() { // what it has now, our log continues, whichever snapshot it came from
			p.becomeReplicate()
		}
	case ProgressReplicate:
		p.window.freeTo(m.Index)
	}
	if r.maybeCommit() {
		r.commitMoved(p)
	} else if wasPaused || p.canBumpCommit(r.log.committed) && !r.cfg.SkipBcastCommit {
		r.maybeSendAppend(p, p.canBumpCommit(r.log.committed))
	}
	for r.state == StateLeader && r.maybeSendAppend(p, false /* evenEmpty */) {
	}
	if r.state == StateLeader && p.id == r.transferee && p.match == r.log.last() {
		r.sendTimeoutNow(p)
	}
	return nil
}

func (r *raft) appendRejected(p *peer, m *Message) {
	hint := m.RejectHint
	if m.RequestSnapshot != 0 && m.LogTerm == r.term {
		// Its last entry is one of ours, so it holds our log up to there, and this answer waited for the disk: it acknowledges. Without
		// that, no snapshot that it would take could ever come about where its vote is needed.
		if p.acked(min(hint, r.log.last())) && r.maybeCommit() {
			r.commitMoved(p)
		}
		if r.state != StateLeader {
			return
		}
	}
	if m.LogTerm > 0 {
		hint, _ = r.log.conflictByTerm(min(hint, r.log.last()), m.LogTerm)
	}
	if !p.rejected(m.Index, hint, min(m.RequestSnapshot, r.log.last())) { // a snapshot beyond our log can't come about
		return
	}
	if p.state == ProgressReplicate {
		p.becomeProbe()
	}
	r.maybeSendAppend(p, true /* evenEmpty */)
}

func (r *raft) handleHeartbeatResponse(m *Message) error {
	p := r.peer(m.From)
	if err := r.roundAcked(p, m.Context); err != nil {
		return err
	}
	p.recentActive = true
	p.committed = max(p.committed, min(m.Commit, r.log.last()))
	if p.state == ProgressSnapshot && m.Commit >= p.pendingSnapshot {
		p.becomeProbe() // it has what we sent, and the answer that said so was lost; this one did not wait for the disk: ask
		p.pendingRequestSnapshot = 0
	}
	if p.state != ProgressSnapshot {
		p.paused = false // an empty append goes even into a full window, so that lost answers heal
	}
	if p.state == ProgressProbe && m.Commit >= p.next {
		// It says nothing of what it holds (its answers are lost, or kept because of damage), but this it has: probe behind it.
		p.next = min(m.Commit, r.log.last()) + 1
	}
	if p.match < r.log.last() || p.state == ProgressProbe || p.pendingRequestSnapshot != 0 {
		r.maybeSendAppend(p, true /* evenEmpty */)
	}
	r.releaseReads()
	return nil
}

// calmAnswer is handleHeartbeatResponse where the peer holds everything and no read waits for it.
func (r *raft) calmAnswer(m *Message) bool {
	p := r.peer(m.From)
	if p == nil || p.id == r.id || !r.calmPeer(p) {
		return false
	}
	p.recentActive = true
	p.committed = max(p.committed, min(m.Commit, r.log.last()))
	return true
}

func (r *raft) calmPeer(p *peer) bool {
	return p.state == ProgressReplicate && p.match == r.log.last() && !p.paused && p.pendingRequestSnapshot == 0 && len(r.reads.queue) == 0
}

// commitMoved tells the peers, if they are to be told at once. p is the one whose answer moved it, nil if it was our own disk.
func (r *raft) commitMoved(p *peer) {
	r.commitReached()
	if r.leave() {
		return
	}
	if !r.cfg.SkipBcastCommit || r.confChangePending() {
		r.bcastAppend()
	} else if p != nil {
		r.maybeSendAppend(p, false /* evenEmpty */)
	}
}

// commitTold tells all peers of a commit that no answer moved; false if it ended our leadership.
func (r *raft) commitTold() bool {
	r.commitReached()
	if r.leave() {
		return false
	}
	r.bcastAppend()
	return true
}

// commitReached releases reads that waited for a commit in this term.
func (r *raft) commitReached() {
	if len(r.reads.early) > 0 && r.committedInTerm() {
		r.releaseEarlyReads()
	}
}

// maybeCommit commits what a quorum holds, if it is of this term (Raft paper §5.4.2).
func (r *raft) maybeCommit() bool {
	index := r.quorumIndex()
	if index <= r.log.committed || index == quorum.Everything {
		return false
	}
	held, err := r.log.matches(index, r.term)
	if err != nil && !errors.Is(err, ErrEntryFaulty) {
		r.fail("term of an entry to commit", index, r.term, err)
	}
	if err != nil || !held {
		return false
	}
	r.log.commitTo(index)
	r.trace("commit", index, 0, "")
	return true
}

func (r *raft) quorumIndex() uint64 {
	if r.groupCommit {
		index, _ := r.groupIndex()
		return index
	}
	return r.quorumOf(func(p *peer) uint64 { return p.match })
}

// quorumOf is the highest value that a quorum has reached, in both halves of a joint configuration.
func (r *raft) quorumOf(value func(*peer) uint64) uint64 {
	in := r.voters[:0]
	for i := range r.peers {
		if r.peers[i].incoming {
			in = append(in, value(&r.peers[i]))
		}
	}
	result := quorum.Committed(in)
	if r.conf.joint() {
		out := r.voters[:0]
		for i := range r.peers {
			if r.peers[i].outgoing {
				out = append(out, value(&r.peers[i]))
			}
		}
		result = min(result, quorum.Committed(out))
	}
	return result
}

func (r *raft) bcastAppend() {
	for i := range r.peers {
		if p := &r.peers[i]; p.id != r.id {
			before := len(r.msgs)
			r.maybeSendAppend(p, true /* evenEmpty */)
			r.hush(p, r.msgs[before:])
		}
	}
}

// hush asks for no answer to an append that was just sent to p, if all that it tells is the commit index: what p holds it says in its
// answer to the entries, and where that is lost the next heartbeat finds p behind, after which it is asked.
func (r *raft) hush(p *peer, sent []Message) {
	if !r.cfg.QuietCommits || p.state != ProgressReplicate {
		return
	}
	for i := range sent {
		sent[i].NoAnswer = sent[i].Type == MsgAppend && len(sent[i].Entries) == 0
	}
}

// maybeSendAppend sends a peer what it lacks; evenEmpty also sends when that is nothing, to tell the commit index or to probe. It
// reports whether something was sent.
func (r *raft) maybeSendAppend(p *peer, evenEmpty bool) bool {
	if p.isPaused() || r.fatal != nil || p.window.countMax == 0 {
		return false
	}
	if p.pendingRequestSnapshot != 0 {
		return r.sendSnapshot(p)
	}
	prev := p.next - 1
	if prev+1 < r.log.firstIndex() {
		return r.sendSnapshot(p)
	}
	prevTerm, err := r.log.term(prev)
	if err != nil {
		return r.cantRead(p, prev, err)
	}
	start := len(r.entries)
	if p.next <= r.log.last() && !(p.state == ProgressReplicate && p.window.full()) {
		if p.fetching {
			return false
		}
		r.entries, err = r.log.slice(r.entries, p.next, r.messageEnd(p.next), r.cfg.MaxSizePerMsg, EntriesContext{reason: fetchSend, to: p.id, term: r.term})
		if err != nil {
			return r.cantRead(p, p.next, err)
		}
	}
	entries := r.entries[start:len(r.entries):len(r.entries)]
	if len(entries) == 0 {
		if !evenEmpty {
			return false
		}
		entries = nil
	}
	size := sizeOf(entries)
	if !(r.cfg.BatchAppend && r.joinAppend(p, entries, size)) {
		r.send(Message{Type: MsgAppend, To: p.id, Index: prev, LogTerm: prevTerm, Entries: entries, Commit: r.log.committed})
	}
	p.sent(len(entries), size)
	p.sentCommit = max(p.sentCommit, r.log.committed)
	return true
}

// messageEnd is where a message from index next on has to end at the latest: without MaxSizePerMsg it carries one entry, empty ones too.
func (r *raft) messageEnd(next uint64) uint64 {
	if r.cfg.MaxSizePerMsg == 0 {
		return next + 1
	}
	return r.log.last() + 1
}

// cantRead decides what to do for a peer whose entries can't be read: a snapshot if they are gone, patience if they are being fetched or
// repaired.
func (r *raft) cantRead(p *peer, index uint64, err error) bool {
	switch {
	case errors.Is(err, ErrCompacted):
		return r.sendSnapshot(p)
	case errors.Is(err, ErrLogTemporarilyUnavailable):
		p.fetching = true
	case errors.Is(err, ErrEntryFaulty):
	default:
		r.fail("entries for a peer", index, r.term, err)
	}
	return false
}

// joinAppend adds entries to an append for the same peer that is still queued, within MaxSizePerMsg (rule 10).
func (r *raft) joinAppend(p *peer, entries []Entry, size uint64) bool {
	for i := len(r.msgs) - 1; i >= 0; i-- {
		m := &r.msgs[i]
		if m.Type != MsgAppend || m.To != p.id || m.Term != r.term {
			continue
		}
		n := len(m.Entries)
		fits := r.cfg.MaxSizePerMsg != 0 && sizeOf(m.Entries)+size <= r.cfg.MaxSizePerMsg
		if m.Index+uint64(n) != p.next-1 || n > 0 && len(entries) > 0 && !fits {
			return false
		}
		if len(entries) > 0 {
			m.Entries = append(m.Entries[:n:n], entries...)
		}
		m.Commit, m.NoAnswer = r.log.committed, false
		return true
	}
	return false
}

// sendSnapshot sends a peer the state that replaces the entries it lacks, if it was heard lately.
func (r *raft) sendSnapshot(p *peer) bool {
	if !p.recentActive {
		return false
	}
	s, err := r.log.snapshotFor(p.pendingRequestSnapshot, p.id)
	if errors.Is(err, ErrSnapshotTemporarilyUnavailable) || errors.Is(err, ErrEntryFaulty) {
		return false
	}
	if err != nil {
		r.fail("snapshot for a peer", p.next, r.term, err)
		return false
	}
	cs := &s.Metadata.ConfState
	if !hasID(cs.Voters, p.id) && !hasID(cs.Learners, p.id) && !hasID(cs.VotersOutgoing, p.id) {
		return false // it would ignore it: wait for one that knows it
	}
	p.becomeSnapshot(s.Metadata.Index)
	r.trace("send_snapshot", s.Metadata.Index, p.id, "")
	r.send(Message{Type: MsgSnapshot, To: p.id, Snapshot: &s})
	return true
}

func hasID(ids []uint64, id uint64) bool {
	for _, v := range ids {
		if v == id {
			return true
		}
	}
	return false
}

var errEmptySnapshot = errors.New("storage gave an empty snapshot")

func (l *raftLog) snapshotFor(request, to uint64) (Snapshot, error) {
	s, err := l.st.Snapshot(request, to)
	if err == nil && s.Metadata.Index == 0 {
		err = errEmptySnapshot
	}
	return s, err
}

// snapshotReported takes what the app says of a snapshot on its way.
func (r *raft) snapshotReported(p *peer, s SnapshotStatus) {
	if p.state != ProgressSnapshot {
		return
	}
	switch s {
	case SnapshotProgress:
		p.snapshotTicks = 0
		return
	case SnapshotFailure:
		p.pendingSnapshot = 0 // or the probe would begin behind it
	}
	p.becomeProbe()
	p.pendingRequestSnapshot = 0
	// If it arrived, its answer comes; if not, wait a heartbeat before trying again.
	p.paused = true
}

func (r *raft) unreachable(p *peer) {
	if p.state == ProgressReplicate {
		p.becomeProbe()
	}
}

// bcastHeartbeat tells everyone that we lead. A heartbeat carries the newest read round that waits, a new one if reads have come since;
// in lease mode every one carries a round of its own, whose tick is remembered.
func (r *raft) bcastHeartbeat() {
	if r.cfg.ReadOnlyOption == ReadOnlyLeaseBased || r.reads.due {
		r.reads.beginRound(r.ticks)
	}
	var context []byte
	if r.reads.roundWaits() || r.cfg.ReadOnlyOption == ReadOnlyLeaseBased {
		var round [8]byte
		binary.LittleEndian.PutUint64(round[:], r.reads.round)
		context = r.keepBytes(round[:]) // shared by the round's messages
	}
	for i := range r.peers {
		if p := &r.peers[i]; p.id != r.id {
			r.send(Message{Type: MsgHeartbeat, To: p.id, Commit: min(p.match, r.log.committed), Context: context})
		}
	}
}

// transferTo begins handing leadership over (dissertation §3.10). A second wish for another node replaces the first.
func (r *raft) transferTo(id uint64) {
	p := r.peer(id)
	if p == nil || !p.voter() || p.learnerNext || id == r.transferee {
		return
	}
	r.abortTransfer()
	if id == r.id {
		return
	}
	r.transferee, r.transferTicks = id, 0
	r.trace("transfer", 0, id, "")
	if p.match == r.log.last() {
		r.sendTimeoutNow(p)
	} else {
		p.paused = false
		r.maybeSendAppend(p, true /* evenEmpty */)
	}
}

func (r *raft) abortTransfer() { r.transferee = 0 }

func (r *raft) sendTimeoutNow(p *peer) {
	r.leaseVoid = true
	r.send(Message{Type: MsgTimeoutNow, To: p.id})
}

// committedInTerm reports whether an entry of this term is committed: only then is the commit index the leader's own knowledge.
func (r *raft) committedInTerm() bool {
	t, err := r.log.term(r.log.committed)
	return err == nil && t == r.term
}
