package raft

import "errors"

// stepFollower takes what only a follower (or a learner) reacts to.
func (r *raft) stepFollower(m *Message) error {
	switch m.Type {
	case MsgAppend, MsgHeartbeat, MsgSnapshot:
		return r.fromLeader(m)
	case MsgTransferLeader:
		if r.leader != 0 && r.leader != m.From {
			r.send(Message{Type: MsgTransferLeader, To: r.leader})
			r.msgs[len(r.msgs)-1].From = m.From
		}
	case MsgTimeoutNow:
		if r.electable && r.promotable() {
			r.hup(true)
		}
	case MsgReadIndexResp:
		r.handleReadAnswer(m)
	}
	return nil
}

// fromLeader takes a message that only the leader of this term sends.
func (r *raft) fromLeader(m *Message) error {
	if r.leader != 0 && r.leader != m.From {
		return invalid("%v of %d in term %d, whose leader is %d", m.Type, m.From, m.Term, r.leader)
	}
	r.contact = 0
	r.waitAnew()
	if r.leader == 0 {
		r.leader = m.From
		r.trace("leader", 0, m.From, "")
		r.forwardReads()
	}
	switch m.Type {
	case MsgAppend:
		return r.handleAppend(m)
	case MsgHeartbeat:
		return r.handleHeartbeat(m)
	}
	return r.handleSnapshot(m)
}

// handleAppend is AppendEntries of the Raft paper, figure 2, with etcd's and raft-rs's backtracking hint.
func (r *raft) handleAppend(m *Message) error {
	if r.asksForSnapshot() {
		r.sendSnapshotRequest()
		return nil
	}
	if err := r.contradicted(m); err != nil {
		return err
	}
	if m.Index < r.log.committed {
		known := r.log.committed - m.Index
		if uint64(len(m.Entries)) <= known {
			r.acceptAppend(m, r.log.committed)
			return nil
		}
		// What is committed here is the leader's too; what follows may be new. Its answer does not always reach the leader: a replica that
		// can't give back all of its log keeps it (partition's silent), and would get nothing but this message for ever.
		rest := *m
		rest.Index, rest.LogTerm, rest.Entries = r.log.committed, m.Entries[known-1].Term, m.Entries[known:]
		m = &rest
	}
	held, err := r.log.matches(m.Index, m.LogTerm)
	if err != nil {
		return r.appendStalled(m.Index, err)
	}
	if !held {
		r.rejectAppend(m)
		return nil
	}
	conflict, err := r.log.findConflict(m.Entries)
	if err != nil {
		return r.appendStalled(m.Index, err)
	}
	if conflict != 0 {
		r.log.append(m.Entries[conflict-m.Index-1:])
	}
	last := m.Index + uint64(len(m.Entries))
	if r.requestSnapshot != 0 {
		r.requestSnapshot = r.log.last() // what is acknowledged from here on must not be lost either
	}
	if r.log.commitTo(min(m.Commit, last)) {
		r.trace("commit", r.log.committed, 0, "")
	}
	r.acceptAppend(m, last)
	return nil
}

var errContradiction = errors.New("two leaders committed different entries, or a log was lost")

// contradicted poisons the node if the leader of this term holds another entry where ours is committed: a leader has every committed
// entry (Raft paper §5.4.3), so somebody's disk broke its promise. Entries that can't be read, or are compacted, prove nothing.
func (r *raft) contradicted(m *Message) error {
	for i := -1; i < len(m.Entries); i++ {
		index, term := m.Index, m.LogTerm
		if i >= 0 {
			index, term = m.Entries[i].Index, m.Entries[i].Term
		}
		if index > r.log.committed {
			break
		}
		if t, err := r.log.term(index); err == nil && t != term {
			return r.fail("append contradicts a committed entry", index, term, errContradiction)
		}
	}
	return nil
}

// appendStalled leaves an append that meets a damaged entry without an answer: the entry is neither held nor missing.
func (r *raft) appendStalled(index uint64, err error) error {
	if errors.Is(err, ErrEntryFaulty) {
		return nil
	}
	return r.fail("term of an entry", index, 0, err)
}

// acceptAppend answers m: everything up to index is as the leader has it.
func (r *raft) acceptAppend(m *Message, index uint64) {
	if m.NoAnswer {
		return
	}
	r.send(Message{Type: MsgAppendResponse, To: m.From, Index: index, Commit: r.log.committed})
}

func (r *raft) rejectAppend(m *Message) {
	hint, term := r.log.conflictByTerm(min(m.Index, r.log.last()), m.LogTerm)
	r.send(Message{Type: MsgAppendResponse, To: m.From, Index: m.Index, Reject: true, RejectHint: hint, LogTerm: term, Commit: r.log.committed})
}

func (r *raft) handleHeartbeat(m *Message) error {
	if m.Commit > r.log.last() {
		return invalid("heartbeat commits %d, our log ends at %d: the leader believes that we hold what we lost", m.Commit, r.log.last())
	}
	if r.log.commitTo(m.Commit) {
		r.trace("commit", r.log.committed, 0, "")
	}
	if r.asksForSnapshot() {
		r.sendSnapshotRequest()
		if !r.requestAnyTerm {
			return nil
		}
		// This wish may last: what rests on heartbeats, not on our log, goes on. Without a commit index, which would say that the snapshot
		// on its way is here.
		r.send(Message{Type: MsgHeartbeatResponse, To: m.From, Context: r.keepBytes(m.Context)})
		return nil
	}
	r.send(Message{Type: MsgHeartbeatResponse, To: m.From, Context: r.keepBytes(m.Context), Commit: r.log.committed})
	return nil
}

// calmBeat is handleHeartbeat where it commits nothing, confirms no round and finds no wish for a snapshot.
func (r *raft) calmBeat(m *Message) (answer Message, taken bool) {
	if m.From != r.leader || r.leader == 0 || m.Commit > r.log.committed || r.requestSnapshot != 0 {
		return Message{}, false
	}
	r.contact = 0
	r.waitAnew()
	return Message{Type: MsgHeartbeatResponse, To: m.From, From: r.id, Term: r.term, Commit: r.log.committed}, true
}

// handleSnapshot restores a snapshot, or says how far our log goes if it does not help.
func (r *raft) handleSnapshot(m *Message) error {
	restored, err := r.restore(m.Snapshot)
	if err != nil {
		return err
	}
	index := r.log.committed
	if restored {
		index = r.log.last()
	}
	r.acceptAppend(m, index)
	return nil
}

func (r *raft) restore(s *Snapshot) (bool, error) {
	meta := &s.Metadata
	if meta.Index <= r.log.committed && (r.requestSnapshot == 0 || meta.Index < r.log.committed) {
		return false, nil
	}
	conf, err := configurationOf(meta.ConfState)
	if err != nil {
		return false, invalid("snapshot at %d: %v", meta.Index, err)
	}
	if !contains(conf.voters, r.id) && !contains(conf.learners, r.id) && !contains(conf.outgoing, r.id) {
		return false, nil // not for us
	}
	if r.requestSnapshot == 0 {
		if held, err := r.log.matches(meta.Index, meta.Term); err == nil && held {
			r.log.commitTo(meta.Index)
			return false, nil
		}
	} else if term, ok := r.log.lastTerm(); meta.Index < r.requestSnapshot && (!ok || meta.Term <= term) {
		return false, nil // it would lose entries that we acknowledged; those that a later term left behind can't be committed
	}
	kept := &Snapshot{Data: s.Data, Metadata: SnapshotMetadata{ConfState: cloneConf(meta.ConfState), Index: meta.Index, Term: meta.Term}}
	r.log.restore(kept)
	r.requestSnapshot, r.requestAnyTerm = 0, false
	r.restored = meta.Index
	r.switchTo(conf)
	r.trace("restore", meta.Index, 0, "")
	return true, nil
}

// requestSnapshotNow asks the leader for a snapshot. Only a log whose last term is the current one may ask (raft-rs#498), unless it takes
// no entries of this term anyway.
func (r *raft) requestSnapshotNow(anyTerm bool) error {
	term, ok := r.log.lastTerm()
	if r.state == StateLeader || r.leader == 0 || r.log.snapshot != nil || r.requestSnapshot != 0 || !ok || term != r.term && !anyTerm {
		return ErrRequestSnapshotDropped
	}
	r.requestSnapshot, r.requestAnyTerm = r.log.last(), anyTerm
	r.sendSnapshotRequest()
	return nil
}

// asksForSnapshot reports whether appends and heartbeats are answered with the request for a snapshot. A wish from an earlier term waits
// until our log has an entry of this one: refusing that entry could keep it, and with it any snapshot, from ever being committed.
func (r *raft) asksForSnapshot() bool {
	if r.requestSnapshot == 0 {
		return false
	}
	term, ok := r.log.lastTerm()
	return !ok || term == r.term || r.requestAnyTerm
}

func (r *raft) sendSnapshotRequest() {
	term, _ := r.log.lastTerm()
	if r.requestAnyTerm {
		term = 0 // a damaged log's wish acknowledges nothing
	}
	r.send(Message{Type: MsgAppendResponse, To: r.leader, Index: r.log.committed, Reject: true, RejectHint: r.log.last(), LogTerm: term,
		RequestSnapshot: r.requestSnapshot, Commit: r.log.committed})
}
