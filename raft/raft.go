package raft

import (
	"errors"
)

// raft is the state machine behind a RawNode: terms, roles, messages. Its parts: follower.go, candidate.go, leader.go one step function
// per role; reads.go ReadIndex; log.go, progress.go, confchange.go what their names say.
//
// What the tick of a calm node touches stands first, in one cache line: a thousand idle groups are a thousand waits for memory.
type raft struct {
	// calm: a follower that has nothing to hand out and no read waiting. Its ticks only count until an election is due. Every call that
	// could change that ends it (RawNode.idle).
	calm      bool
	state     StateRole
	electable bool

	ticks           uint64 // since the node was made
	electionElapsed int
	electionTimeout int // electionDrawn, or what hasten made of it
	// contact counts ticks since a leader was last heard, whatever happened to term and role meanwhile. Rule 1: while it is below
	// ElectionTick no vote is granted.
	contact int
	fatal   *FatalError
	term    uint64

	vote             uint64
	leader           uint64
	heartbeatElapsed int
	electionDrawn    int // for this term and role

	log       raftLog
	msgs      []Message // to be sent now
	persisted []Message // to be sent when stable
	reads     reads

	id   uint64
	cfg  Config
	conf configuration
	// peers are the members of conf, this node included if it is one, sorted by id. Order of everything sent is this order.
	peers  []peer
	voters []uint64       // scratch for counting, len(peers)
	groups []groupScratch // scratch for group commit

	transferee      uint64
	transferTicks   int  // since the transfer began; not electionElapsed, or endless transfers would keep check-quorum from its turn
	leaseVoid       bool // MsgTimeoutNow was sent in this term
	pendingConf     uint64
	leavingAt       uint64   // rule 8: removed, but leading until the log up to here is committed; 0: not leaving
	restored        uint64   // index of the last snapshot restored
	confFree        uint64   // committed entries above applied hold no configuration change up to here
	confHanded      []uint64 // configuration entries handed out and not applied yet
	requestSnapshot uint64   // index that a wanted snapshot must reach, 0: none wanted
	requestAnyTerm  bool     // it is wanted whatever our last term is: the log takes no entries (ReplaceLog)
	uncommitted     uint64   // bytes proposed and not handed out committed
	uncommittedFrom uint64   // entries up to here are not counted: they were there before the election
	groupCommit     bool

	entries  []Entry // arena of the entries that msgs carry
	contexts []byte  // arena of the contexts that msgs carry
	scratch  []Entry // for scans
}

// open begins a life of the node from what Storage holds.
func (r *raft) open(cfg Config, st Storage) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	hs, cs, err := st.InitialState()
	if err != nil {
		return &FatalError{Op: "initial state", Err: err}
	}
	if hs.Term >= termMax {
		return &FatalError{Op: "initial state", Term: hs.Term, Err: errors.New("the term does not fit 31 bits")}
	}
	if err := r.log.open(st, hs, cfg.Applied); err != nil {
		return err
	}
	conf, err := configurationOf(cs)
	if err != nil {
		return &FatalError{Op: "initial state", Err: err}
	}
	r.cfg, r.id, r.term, r.vote, r.electable, r.contact = cfg, cfg.ID, hs.Term, hs.Vote, true, cfg.ElectionTick
	r.reads.nonce = uint64(cfg.Rand(1<<30))<<32 | uint64(cfg.Rand(1<<30))
	if cfg.ReadOnlyOption == ReadOnlyLeaseBased && hs != (HardState{}) {
		r.contact = 0 // what we promised before the crash may still hold
	}
	r.switchTo(conf)
	r.becomeFollower(r.term, 0)
	return nil
}

func (r *raft) hardState() HardState { return HardState{r.term, r.vote, r.log.committed} }
func (r *raft) softState() SoftState { return SoftState{r.leader, r.state} }

func (r *raft) trace(kind string, index, peer uint64, detail string) {
	if r.cfg.Tracer != nil {
		r.cfg.Tracer.Trace(Event{Kind: kind, Node: r.id, Term: r.term, Index: index, Peer: peer, Detail: detail})
	}
}

// fail poisons the node. The first cause stays.
func (r *raft) fail(op string, index, term uint64, err error) *FatalError {
	if r.fatal == nil {
		var fe *FatalError
		if !errors.As(err, &fe) {
			fe = &FatalError{Op: op, Index: index, Term: term, Err: err}
		}
		r.fatal = fe
		r.trace("fatal", fe.Index, 0, fe.Error())
	}
	return r.fatal
}

// peer is the member with this id, nil if there is none. The pointer is good until the configuration changes.
func (r *raft) peer(id uint64) *peer {
	for i := range r.peers {
		if r.peers[i].id == id {
			return &r.peers[i]
		}
	}
	return nil
}

func (r *raft) self() *peer { return r.peer(r.id) }

// promotable reports whether this node could be elected.
func (r *raft) promotable() bool {
	p := r.self()
	return p != nil && p.voter() && r.log.snapshot == nil
}

// send queues a message. Which ones wait for the disk is a matter of their type (raft-api.md "Ownership and order"); leader messages
// may join them at Ready (rule 3).
func (r *raft) send(m Message) {
	m.From = r.id
	if m.Term == 0 && m.Type != MsgPropose && m.Type != MsgReadIndex {
		m.Term = r.term
	}
	switch m.Type {
	case MsgAppendResponse, MsgRequestVote, MsgRequestVoteResponse, MsgRequestPreVote, MsgRequestPreVoteResponse:
		r.persisted = append(r.persisted, m)
	default:
		r.msgs = append(r.msgs, m)
	}
}

// reset begins a term or a role anew.
func (r *raft) reset(term uint64) {
	if r.term != term {
		r.term, r.vote = term, 0
		r.leaseVoid = false
	}
	r.leader = 0
	lo, hi := r.cfg.electionRange()
	r.electionDrawn, r.heartbeatElapsed = lo+r.draw(hi-lo), 0
	r.waitAnew()
	r.transferee = 0
	r.pendingConf, r.leavingAt = 0, 0
	r.uncommitted, r.uncommittedFrom = 0, 0
	last := r.log.last()
	for i := range r.peers {
		p := &r.peers[i]
		p.vote = voteNone
		p.reset(last)
		if p.id == r.id {
			p.match = r.log.persisted
		}
	}
}

// waitAnew begins the wait for an election from its start.
func (r *raft) waitAnew() { r.electionElapsed, r.electionTimeout = 0, r.electionDrawn }

func (r *raft) draw(n int) int {
	v := r.cfg.Rand(n)
	return min(max(v, 0), n-1)
}

func (r *raft) becomeFollower(term, leader uint64) {
	moved := r.state != StateFollower || r.term != term || r.leader != leader
	r.reset(term)
	r.state, r.leader = StateFollower, leader
	if moved {
		r.readsRoleChanged()
		r.trace("become_follower", 0, leader, "")
	}
}

// count moves the clocks that count whatever the role does.
func (r *raft) count(ticks int) {
	r.ticks += uint64(ticks)
	r.contact = min(r.contact+ticks, ticksMax)
}

// skip is that many ticks of which none does more than count (RawNode.IdleTicks).
func (r *raft) skip(ticks int) {
	r.count(ticks)
	r.electionElapsed += ticks
	if r.state == StateLeader {
		r.heartbeatElapsed += ticks
		r.transferTicks += ticks
	}
}

// idleTicks is how many ticks from now on only count.
func (r *raft) idleTicks() int {
	switch {
	case r.reads.waiting():
		return 0
	case r.state != StateLeader && !(r.electable && r.promotable()):
		return ticksMax
	case r.cfg.EagerElections && (r.state == StateCandidate || r.state == StatePreCandidate):
		return 0 // it may ask again
	case r.state != StateLeader:
		return max(0, r.electionTimeout-r.electionElapsed-1)
	case r.transferee != 0 || r.conf.autoLeave:
		return 0
	}
	for i := range r.peers {
		if r.peers[i].state == ProgressSnapshot {
			return 0
		}
	}
	return max(0, min(r.cfg.HeartbeatTick-r.heartbeatElapsed, r.cfg.ElectionTick-r.electionElapsed)-1)
}

// tick moves time on by one.
func (r *raft) tick() {
	r.count(1)
	if r.state == StateLeader {
		r.tickLeader()
	} else {
		r.tickElection()
	}
	r.expireReads()
}

func (r *raft) tickElection() {
	r.electionElapsed++
	due := r.electionElapsed >= r.electionTimeout
	if !due && r.state == StateFollower || !r.electable || !r.promotable() {
		return
	}
	switch {
	case due:
		r.waitAnew()
		r.hup(false)
	case r.cfg.EagerElections:
		r.askAgain()
	}
}

// step takes a message of a peer. The message has been checked by valid.
func (r *raft) step(m *Message) error {
	switch {
	case m.Term == 0: // forwarded
	case m.Term >= r.term:
		vote := m.Type == MsgRequestVote || m.Type == MsgRequestPreVote
		if vote && string(m.Context) != CampaignTransfer && r.promised() {
			return nil // rule 1: a leader was heard within the last ElectionTick ticks
		}
		if m.Term > r.term {
			r.higherTerm(m)
		}
	default:
		r.lowerTerm(m)
		return nil
	}
	switch m.Type {
	case MsgRequestVote, MsgRequestPreVote:
		r.handleVote(m)
		return nil
	case MsgPropose:
		return r.propose(m.Entries)
	case MsgReadIndex:
		r.handleReadIndex(m)
		return nil
	}
	switch r.state {
	case StateLeader:
		return r.stepLeader(m)
	case StateFollower:
		return r.stepFollower(m)
	}
	return r.stepCandidate(m)
}

// promised reports whether a vote would break the promise that leases and stability rest on.
func (r *raft) promised() bool {
	return r.cfg.CheckQuorum && (r.state == StateLeader || r.contact < r.cfg.ElectionTick)
}

// higherTerm follows a message into its term, pre-votes and their grants excepted: they speak of a term that nobody is in yet.
func (r *raft) higherTerm(m *Message) {
	switch m.Type {
	case MsgRequestPreVote:
	case MsgRequestPreVoteResponse:
		if m.Reject {
			r.becomeFollower(m.Term, 0)
			r.hasten(false) // it was our term that was refused
		}
	case MsgAppend, MsgHeartbeat, MsgSnapshot:
		r.becomeFollower(m.Term, m.From)
	default:
		r.becomeFollower(m.Term, 0)
	}
}

// lowerTerm answers those who have to learn of our term: candidates (Raft paper §5.1; else they come to it one election timeout per term)
// and leaders of old, which would be stuck (etcd's and raft-rs's rule for pre-vote and check-quorum; a node that never campaigns, a learner
// that was a candidate once, has no other way to be heard).
func (r *raft) lowerTerm(m *Message) {
	switch {
	case (r.cfg.CheckQuorum || r.cfg.PreVote || !r.electable || !r.promotable()) && (m.Type == MsgHeartbeat || m.Type == MsgAppend || m.Type == MsgSnapshot):
		r.send(Message{Type: MsgAppendResponse, To: m.From})
	case m.Type == MsgRequestVote || m.Type == MsgRequestPreVote:
		r.sendVoteResponse(m, true)
	}
}

// handleVote answers a vote or pre-vote, in any role (Raft paper §5.2, §5.4.1; dissertation §9.6).
func (r *raft) handleVote(m *Message) {
	can := r.vote == m.From || r.vote == 0 && r.leader == 0 || m.Type == MsgRequestPreVote && m.Term > r.term
	grant := can && r.upToDate(m)
	r.sendVoteResponse(m, !grant)
	if grant && m.Type == MsgRequestVote {
		r.vote = m.From
		r.waitAnew()
		r.trace("vote", m.Index, m.From, "")
	}
	if !grant {
		r.refused(m)
	}
	r.commitByVote(m)
}

// upToDate compares the candidate's last entry with ours. An equal log of lower priority is refused. With a damaged last entry whose
// term is unknown nothing can be compared: no.
func (r *raft) upToDate(m *Message) bool {
	term, ok := r.log.lastTerm()
	if !ok {
		return false
	}
	last := r.log.last()
	if m.LogTerm == term && m.Index == last {
		return m.Priority >= r.cfg.Priority
	}
	return m.LogTerm > term || m.LogTerm == term && m.Index > last
}

// sendVoteResponse answers with the request's term if it is granted, else with ours; both tell how far we know the log committed.
func (r *raft) sendVoteResponse(m *Message, reject bool) {
	a := Message{Type: MsgRequestVoteResponse, To: m.From, Reject: reject, Term: r.term}
	if m.Type == MsgRequestPreVote {
		a.Type = MsgRequestPreVoteResponse
		if !reject {
			a.Term = m.Term
		}
	}
	a.Commit, a.CommitTerm = r.log.commitInfo()
	r.send(a)
}

// commitByVote takes the commit index that votes and their answers carry. A candidate that learns of a committed configuration change
// which it has not applied does not know its own electorate: it steps down.
func (r *raft) commitByVote(m *Message) {
	if r.state == StateLeader {
		return
	}
	from := r.log.committed
	if !r.log.fastForward(m.Commit, m.CommitTerm) || r.state == StateFollower {
		return
	}
	if r.hasConfChange(max(from, r.log.applied)+1, r.log.committed+1) {
		r.becomeFollower(r.term, 0)
	}
}

// scanBytes is how much of the log a scan reads at once.
const scanBytes = 1 << 20

// hasConfChange reports whether [lo, hi), which is committed, holds a configuration change, or may hold one because it can't be read.
// What was scanned once is not read again: messages that ask for elections can't make us read a backlog over and over.
func (r *raft) hasConfChange(lo, hi uint64) bool {
	lo = max(lo, r.log.firstIndex())
	contiguous := lo <= max(r.confFree, r.log.applied)+1
	lo = max(lo, r.confFree+1)
	for lo < hi {
		var err error
		r.scratch, err = r.log.slice(r.scratch[:0], lo, hi, scanBytes, EntriesContext{reason: fetchScan})
		if err != nil {
			if !errors.Is(err, ErrEntryFaulty) {
				r.fail("scan for configuration changes", lo, r.term, err)
			}
			return true
		}
		for i := range r.scratch {
			if r.scratch[i].Type != EntryNormal {
				return true
			}
		}
		lo += uint64(len(r.scratch))
		if contiguous {
			r.confFree = lo - 1
		}
		clear(r.scratch)
	}
	return false
}

// propose takes entries from the app or from a follower. A refusal has no effect and says why (rule 7).
func (r *raft) propose(entries []Entry) error {
	if r.state != StateLeader {
		switch {
		case r.leader == 0 || r.state != StateFollower:
			return dropNoLeader
		case r.cfg.DisableProposalForwarding:
			return dropForwarding
		}
		r.send(Message{Type: MsgPropose, To: r.leader, Entries: r.keep(entries)})
		return nil
	}
	switch {
	case r.self() == nil || r.leavingAt != 0:
		return dropRemoved
	case r.transferee != 0:
		return dropTransferring
	}
	change, err := r.checkProposal(entries)
	if err != nil {
		return err
	}
	size := sizeOf(entries)
	if limit := r.cfg.MaxUncommittedSize; limit != 0 && size > 0 && r.uncommitted > 0 && r.uncommitted+size > limit {
		return dropUncommitted
	}
	if change != 0 {
		r.pendingConf = r.log.last() + change
	}
	r.uncommitted += size
	for i := range entries {
		r.appendEntry(entries[i].Type, entries[i].Data, entries[i].Context)
	}
	r.bcastAppend()
	return nil
}

// checkProposal finds the configuration change among entries, if there is one: its position from 1 on. More than one at a time is one
// too many.
func (r *raft) checkProposal(entries []Entry) (change uint64, err error) {
	for i := range entries {
		if entries[i].Type == EntryNormal {
			continue
		}
		if change != 0 {
			return 0, dropConfPending
		}
		cc, err := decodeConfChange(&entries[i])
		if err != nil {
			return 0, dropInvalidChange
		}
		if err := r.checkConfProposal(&cc); err != nil {
			return 0, err
		}
		change = uint64(i) + 1
	}
	return change, nil
}

// keep copies entries into the arena of queued messages, so that a message never shares memory with the log or with the caller
// (rule 12).
func (r *raft) keep(entries []Entry) []Entry {
	start := len(r.entries)
	r.entries = append(r.entries, entries...)
	return r.entries[start:len(r.entries):len(r.entries)]
}

// keepBytes copies a context into the arena of queued messages, for the same reason.
func (r *raft) keepBytes(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	start := len(r.contexts)
	r.contexts = append(r.contexts, b...)
	return r.contexts[start:len(r.contexts):len(r.contexts)]
}

// appendEntry adds an entry of our own to the log.
func (r *raft) appendEntry(t EntryType, data, context []byte) {
	one := [1]Entry{{Type: t, Term: r.term, Index: r.log.last() + 1, Data: data, Context: context}}
	r.log.append(one[:])
}

// persistedTo draws the conclusions of log.persisted having moved: a leader counts itself.
func (r *raft) persistedTo() {
	if r.state != StateLeader {
		return
	}
	if p := r.self(); p != nil && p.acked(r.log.persisted) && r.maybeCommit() {
		r.commitMoved(nil)
	}
}
