package raft

import (
	"cmp"
	"errors"
	"fmt"
)

// RawNode is one member of a Raft group: a pure state machine. It starts no goroutine, takes no lock, reads no clock and does no I/O;
// it must not be used by two goroutines at once. doc.go is its contract.
type RawNode struct {
	r raft // by value and first: an idle tick finds all that it needs in a row

	prevSoft SoftState
	prevHard HardState
	// applyStalled: a committed entry is damaged; tried again at the next tick.
	applyStalled bool
	outstanding  bool

	number    uint64
	persisted uint64 // highest number reported stable
	// records are the Readys that are not known to be stable, in order of number.
	records []record
	rd      Ready
	light   LightReady
	soft    SoftState
	buf     buffers
	visited Progress // what VisitProgress shows
}

// NewRawNode makes a node from what Storage holds. The error reports every fault of the Config, or is a *FatalError about Storage.
func NewRawNode(cfg Config, st Storage) (*RawNode, error) {
	if st == nil {
		return nil, errors.Join(cfg.Validate(), errors.New("raft: a Storage must be given"))
	}
	n := &RawNode{}
	if err := n.r.open(cfg, st); err != nil {
		return nil, err
	}
	n.prevSoft, n.prevHard = n.r.softState(), n.r.hardState()
	return n, nil
}

// Err is nil, or the FatalError that poisoned the node.
func (n *RawNode) Err() error {
	if n.r.fatal == nil {
		return nil
	}
	return n.r.fatal
}

// idle says why a call must have no effect now, nil if it may have one: whoever asks is about to change something.
func (n *RawNode) idle() error {
	n.r.calm = false
	switch {
	case n.r.fatal != nil:
		return n.r.fatal
	case n.outstanding:
		return ErrReadyOutstanding
	}
	return nil
}

// Tick moves time on by one tick. True: a Ready is probably waiting.
func (n *RawNode) Tick() bool {
	r := &n.r
	if r.calm && r.electionElapsed+1 < r.electionTimeout {
		r.count(1)
		r.electionElapsed++
		return false
	}
	if r.fatal != nil {
		return false
	}
	n.applyStalled = false
	r.tick()
	ready := n.HasReady()
	r.calm = !ready && r.state == StateFollower && !r.reads.waiting() && !n.applyStalled && !n.outstanding && len(n.records) == 0
	return ready
}

// IdleTicks is how many ticks from now on do nothing but count, as long as nothing else is called: the app may keep them and hand them
// over with TickN, before the next other call at the latest.
func (n *RawNode) IdleTicks() int {
	switch {
	case n.r.fatal != nil:
		return ticksMax
	case n.applyStalled:
		return 0
	}
	return n.r.idleTicks()
}

// TickN is so many ticks at once.
func (n *RawNode) TickN(ticks int) bool {
	for ticks > 0 && n.r.fatal == nil {
		if skip := min(ticks, n.IdleTicks()); skip > 0 {
			n.r.skip(skip)
			ticks -= skip
			continue
		}
		n.Tick()
		ticks--
	}
	return n.HasReady()
}

// Step takes a message of a peer. Of m it keeps only Entry.Data, Entry.Context and Snapshot.Data. Errors: ErrStepLocalMsg,
// ErrStepPeerNotFound, ErrInvalidMessage, a refused MsgPropose's reason, ErrReadyOutstanding, a *FatalError.
func (n *RawNode) Step(m Message) error {
	if err := n.idle(); err != nil {
		return err
	}
	if err := n.r.valid(&m); err != nil {
		return err
	}
	err := n.r.step(&m)
	if n.r.fatal != nil {
		return n.r.fatal
	}
	return err
}

// StepCalm takes a heartbeat, or the answer to one, that says no more than that its sender lives and knows what we know: no Ready comes
// of it, and Step would have done the same. answer is what the app sends then, as a Message of Ready; To 0: nothing. taken false: nothing
// has happened, m is for Step.
func (n *RawNode) StepCalm(m *Message) (answer Message, taken bool) {
	r := &n.r
	if r.fatal != nil || n.outstanding || m.Term != r.term || len(m.Context) != 0 || m.To != 0 && m.To != r.id {
		return Message{}, false
	}
	switch {
	case m.Type == MsgHeartbeat && r.state == StateFollower:
		return r.calmBeat(m)
	case m.Type == MsgHeartbeatResponse && r.state == StateLeader:
		return Message{}, r.calmAnswer(m)
	}
	return Message{}, false
}

// Calm reports whether StepCalm would take every heartbeat of our leader that commits nothing new, or every answer to ours, and nothing
// waits to be handed out.
func (n *RawNode) Calm() bool {
	r := &n.r
	if r.fatal != nil || n.outstanding || n.HasReady() {
		return false
	}
	switch r.state {
	case StateFollower:
		return r.leader != 0 && r.requestSnapshot == 0
	case StateLeader:
		for i := range r.peers {
			if p := &r.peers[i]; p.id != r.id && !r.calmPeer(p) {
				return false
			}
		}
		return true
	}
	return false
}

// Campaign begins an election by hand. ErrNotPromotable: learners, removed nodes and nodes with an unapplied configuration change never
// campaign. On a leader it does nothing. It breaks the promise that leases rest on: don't call it where leases are used.
func (n *RawNode) Campaign() error {
	if err := n.idle(); err != nil {
		return err
	}
	if n.r.state == StateLeader {
		return nil
	}
	if !n.r.electable || !n.r.hup(false) {
		if n.r.fatal != nil {
			return n.r.fatal
		}
		return ErrNotPromotable
	}
	return nil
}

// Ping makes a leader send heartbeats now.
func (n *RawNode) Ping() {
	if n.idle() == nil && n.r.state == StateLeader {
		n.r.bcastHeartbeat()
	}
}

// Propose asks for an entry. data and context are kept by reference and must not change any more. A refusal matches ErrProposalDropped
// and exactly one reason.
func (n *RawNode) Propose(context, data []byte) error {
	return n.propose(EntryNormal, context, data)
}

// ProposeConfChange asks for a configuration change. Besides Propose's reasons: ErrConfChangePending, ErrInvalidConfChange.
func (n *RawNode) ProposeConfChange(context []byte, cc ConfChanger) error {
	if cc == nil {
		return cmp.Or[error](n.idle(), dropInvalidChange)
	}
	if v1, ok := cc.AsV1(); ok {
		return n.propose(EntryConfChange, context, v1.Marshal())
	}
	return n.propose(EntryConfChangeV2, context, cc.AsV2().Marshal())
}

func (n *RawNode) propose(t EntryType, context, data []byte) error {
	if err := n.idle(); err != nil {
		return err
	}
	one := [1]Entry{{Type: t, Data: data, Context: context}}
	err := n.r.propose(one[:])
	if n.r.fatal != nil {
		return n.r.fatal
	}
	return err
}

// ApplyConfChange puts a committed change into effect and returns the configuration. It is legal at any time, in entry order, before
// AdvanceApply* passes the entry. An error means an invalid change: the configuration is unchanged, the entry is an applied no-op on
// every replica.
func (n *RawNode) ApplyConfChange(cc ConfChanger) (ConfState, error) {
	n.r.calm = false
	if n.r.fatal != nil {
		return ConfState{}, n.r.fatal
	}
	if cc == nil {
		return n.r.conf.state(), fmt.Errorf("%w: none was given", errConf)
	}
	if h := n.r.confHanded; len(h) > 0 {
		n.r.confHanded = h[1:]
		if h[0] <= n.r.restored { // a snapshot has put a later configuration in its place
			return n.r.conf.state(), nil
		}
	}
	return n.r.applyConfChange(cc.AsV2())
}

// OverrideConf puts a configuration into effect that no entry of the log made so: an operator's last resort where the voters that could commit
// such an entry are gone for good. It breaks what Raft proves: whoever calls it has excluded that the voters left out ever vote again, and
// brings the log to the same configuration as soon as this node leads, before anything is acknowledged. It is legal at any time. An error
// means an invalid configuration, or FatalError: nothing changed.
func (n *RawNode) OverrideConf(cs ConfState) error {
	n.r.calm = false
	if n.r.fatal != nil {
		return n.r.fatal
	}
	c, err := configurationOf(cs)
	if err == nil && len(c.voters) == 0 {
		err = fmt.Errorf("%w: no voters", errConf)
	}
	if err != nil {
		return err
	}
	n.r.switchTo(c)
	n.r.trace("conf_override", n.r.log.applied, 0, "")
	n.r.confSwitched()
	return nil
}

// ReadIndex asks for an index that reflects everything acknowledged before now. It ends in exactly one ReadState or DroppedRead with
// ctx, which is kept by reference. An error (Err, or ErrReadyOutstanding) means that nothing was asked.
func (n *RawNode) ReadIndex(ctx []byte) error {
	if err := n.idle(); err != nil {
		return err
	}
	n.r.readIndex(ctx)
	return nil
}

// TransferLeader asks the leader to hand leadership to id. It is given up after ElectionTick ticks.
func (n *RawNode) TransferLeader(id uint64) {
	if n.idle() != nil {
		return
	}
	switch r := &n.r; {
	case r.state == StateLeader:
		r.transferTo(id)
	case r.state == StateFollower && r.leader != 0 && r.leader != id:
		r.send(Message{Type: MsgTransferLeader, To: r.leader})
		r.msgs[len(r.msgs)-1].From = id
	}
}

// ForgetLeader makes a follower forget its leader, so that it may grant votes at once. ErrLeaseMode where leases are used: they rest on
// not forgetting.
func (n *RawNode) ForgetLeader() error {
	if err := n.idle(); err != nil {
		return err
	}
	switch {
	case n.r.cfg.ReadOnlyOption == ReadOnlyLeaseBased:
		return ErrLeaseMode
	case n.r.state == StateFollower && n.r.leader != 0:
		n.r.leader = 0
		n.r.contact = n.r.cfg.ElectionTick
		n.r.readsRoleChanged()
	}
	return nil
}

// RequestSnapshot asks the leader for a snapshot, whatever our log holds. ErrRequestSnapshotDropped: leader, no leader, one already
// pending, last log term != current term.
func (n *RawNode) RequestSnapshot() error {
	if err := n.idle(); err != nil {
		return err
	}
	return n.r.requestSnapshotNow(false)
}

// ReplaceLog is RequestSnapshot for a log that can take no entries, because what they continue is damaged and no peer holds it any more: it
// may be of any term, since refusing the entries of this one costs nothing that the damage has not cost. The wish lasts, through changes of
// leader, until a snapshot came or want is false. Heartbeats are answered meanwhile. ErrRequestSnapshotDropped: leader, no leader, one
// already pending.
func (n *RawNode) ReplaceLog(want bool) error {
	if err := n.idle(); err != nil {
		return err
	}
	if want {
		return n.r.requestSnapshotNow(true)
	}
	if n.r.requestAnyTerm {
		n.r.requestSnapshot, n.r.requestAnyTerm = 0, false
	}
	return nil
}

// ReportUnreachable says that a message to id did not get there: a leader probes before it sends more.
func (n *RawNode) ReportUnreachable(id uint64) {
	if n.idle() == nil && n.r.state == StateLeader {
		if p := n.r.peer(id); p != nil {
			n.r.unreachable(p)
		}
	}
}

// ForgetProgress says that id holds less than it once acknowledged, because its disk lost it: a leader counts nothing of it any more and
// probes anew. What is committed stays committed. Without it the leader would take every rejection below Match for old news.
func (n *RawNode) ForgetProgress(id uint64) {
	if n.idle() == nil && n.r.state == StateLeader && id != n.r.id {
		if p := n.r.peer(id); p != nil {
			p.forget(n.r.log.last())
			n.r.maybeSendAppend(p, true /* evenEmpty */)
		}
	}
}

// ReportSnapshot says what became of a MsgSnapshot to id.
func (n *RawNode) ReportSnapshot(id uint64, s SnapshotStatus) {
	if n.idle() == nil && n.r.state == StateLeader {
		if p := n.r.peer(id); p != nil && s <= SnapshotProgress {
			n.r.snapshotReported(p, s)
		}
	}
}

// OnEntriesFetched says that the entries for which Storage answered ErrLogTemporarilyUnavailable can be read now.
func (n *RawNode) OnEntriesFetched(c EntriesContext) {
	r := &n.r
	if r.fatal != nil || !c.CanAsync() || r.state != StateLeader || r.term != c.term {
		return
	}
	if p := r.peer(c.to); p != nil {
		p.fetching = false
		for r.maybeSendAppend(p, false /* evenEmpty */) {
		}
	}
}

// Advance says that rd is persisted and its CommittedEntries are applied: AdvanceAppend, then AdvanceApplyTo. What the LightReady
// brings is still to be applied.
func (n *RawNode) Advance(rd *Ready) *LightReady {
	handed := n.r.log.handed
	mine := n.mine(rd)
	light := n.AdvanceAppend(rd)
	if mine {
		n.AdvanceApplyTo(handed)
	}
	return light
}

func (n *RawNode) mine(rd *Ready) bool {
	return n.r.fatal == nil && n.outstanding && rd != nil && rd.Number == n.number
}

// AdvanceAppend says that rd is persisted, not yet applied. Everything before it counts as persisted too.
func (n *RawNode) AdvanceAppend(rd *Ready) *LightReady {
	n.light = LightReady{}
	if !n.mine(rd) {
		return &n.light
	}
	n.endReady()
	n.OnPersistReady(n.number)
	r := &n.r
	if r.fatal != nil {
		return &n.light
	}
	n.light.CommittedEntries = n.takeCommitted()
	if r.fatal != nil {
		n.light = LightReady{}
		return &n.light
	}
	if r.log.committed > n.prevHard.Commit {
		n.prevHard.Commit = r.log.committed
		n.light.CommitIndex, n.light.HasCommitIndex = r.log.committed, true
	}
	if r.state == StateLeader && !n.hardChanged() && !n.termUnsynced() {
		n.light.Messages = n.swapMessages()
	}
	return &n.light
}

// AdvanceAppendAsync says that rd's entries can be read from Storage; OnPersistReady says later that they are synced.
func (n *RawNode) AdvanceAppendAsync(rd *Ready) {
	if !n.mine(rd) {
		return
	}
	n.endReady()
	n.settle()
}

// endReady ends the outstanding Ready: Storage has its entries now.
func (n *RawNode) endReady() {
	n.outstanding = false
	rec := &n.records[len(n.records)-1]
	rec.advanced = true
	n.r.log.appended(rec.last.index, rec.snapshot != 0)
	clear(n.rd.ReadStates)
	clear(n.rd.DroppedReads)
	n.buf.states, n.buf.dropped = trim(n.buf.states), trim(n.buf.dropped)
}

// OnPersistReady says that the Ready with this number and all before it are synced. Reporting the highest suffices.
func (n *RawNode) OnPersistReady(number uint64) {
	if n.r.fatal != nil || number <= n.persisted && len(n.records) == 0 {
		return
	}
	n.persisted = max(n.persisted, min(number, n.number))
	n.settle()
}

// settle draws the conclusions of what is stable. A Ready with nothing to persist is stable with the one before it.
func (n *RawNode) settle() {
	r := &n.r
	n.forgetCut()
	n.takeBack()
	done := 0
	before := r.log.persisted
	for done < len(n.records) {
		rec := &n.records[done]
		if !rec.advanced || rec.persist && rec.number > n.persisted {
			break
		}
		if rec.snapshot != 0 {
			r.log.persistSnapshot(rec.snapshot)
		}
		if rec.last.index != 0 {
			r.log.persist(rec.last)
		}
		if rec.msgs != nil {
			n.buf.lent = append(n.buf.lent, lentMessages{rec.number, rec.msgs})
		}
		done++
	}
	if done == 0 {
		return
	}
	rest := copy(n.records, n.records[done:])
	clear(n.records[rest:])
	n.records = n.records[:rest]
	n.takeBack()
	if r.log.persisted != before {
		r.persistedTo()
	}
}

// AdvanceApply says that everything handed out is applied.
func (n *RawNode) AdvanceApply() { n.AdvanceApplyTo(n.r.log.handed) }

// AdvanceApplyTo says that everything up to applied is applied. Beyond what was handed out it has no effect, and a snapshot does not
// count before it was reported persisted.
func (n *RawNode) AdvanceApplyTo(applied uint64) {
	r := &n.r
	applied = min(applied, n.appliable())
	if n.idle() != nil || applied <= r.log.applied {
		return
	}
	r.log.applied = applied
	for len(r.confHanded) > 0 && r.confHanded[0] <= applied {
		r.confHanded = r.confHanded[1:]
	}
	n.freeCommitted(applied)
	r.maybeAutoLeave()
}

// appliable is how far the app can have applied: what was handed out, without a snapshot that is not stable and what follows it.
func (n *RawNode) appliable() uint64 {
	for i := range n.records {
		if n.records[i].snapshot != 0 {
			return n.records[i].handed
		}
	}
	return n.r.log.handed
}

// SetElectable(false) makes the node answer votes but never stand for election: Campaign, its own timeout and MsgTimeoutNow are refused.
func (n *RawNode) SetElectable(on bool) {
	if n.idle() == nil {
		n.r.electable = on
	}
}

// SetPriority changes Config.Priority.
func (n *RawNode) SetPriority(p int64) {
	if n.idle() == nil {
		n.r.cfg.Priority = p
	}
}

// SetBatchAppend changes Config.BatchAppend.
func (n *RawNode) SetBatchAppend(on bool) {
	if n.idle() == nil {
		n.r.cfg.BatchAppend = on
	}
}

// SetSkipBcastCommit changes Config.SkipBcastCommit.
func (n *RawNode) SetSkipBcastCommit(on bool) {
	if n.idle() == nil {
		n.r.cfg.SkipBcastCommit = on
	}
}

// SetCheckQuorum changes Config.CheckQuorum. Where leases are used it can't be switched off.
func (n *RawNode) SetCheckQuorum(on bool) {
	if n.idle() == nil && (on || n.r.cfg.ReadOnlyOption != ReadOnlyLeaseBased) {
		n.r.cfg.CheckQuorum = on
	}
}

// SetMaxCommittedSizePerReady changes Config.MaxCommittedSizePerReady.
func (n *RawNode) SetMaxCommittedSizePerReady(bytes uint64) {
	if n.idle() == nil {
		n.r.cfg.MaxCommittedSizePerReady = bytes
	}
}

// SetMaxApplyUnpersistedLogLimit changes Config.MaxApplyUnpersistedLogLimit.
func (n *RawNode) SetMaxApplyUnpersistedLogLimit(entries uint64) {
	if n.idle() == nil {
		n.r.cfg.MaxApplyUnpersistedLogLimit = entries
	}
}

// AdjustMaxInflightMsgs changes the window of one peer; 0 stops sending appends to it.
func (n *RawNode) AdjustMaxInflightMsgs(id uint64, count int) {
	if p := n.r.peer(id); n.idle() == nil && p != nil && count >= 0 {
		p.window.countMax = count
		if p.state == ProgressReplicate {
			p.paused = p.window.full()
		}
	}
}

// EnableGroupCommit makes an entry commit only when two commit groups hold it.
func (n *RawNode) EnableGroupCommit(on bool) {
	if n.idle() == nil {
		n.r.enableGroupCommit(on)
	}
}

// AssignCommitGroups puts peers into commit groups.
func (n *RawNode) AssignCommitGroups(groups []CommitGroup) {
	if n.idle() == nil {
		n.r.assignCommitGroups(groups)
	}
}

// ClearCommitGroups takes every peer out of its commit group.
func (n *RawNode) ClearCommitGroups() {
	if n.idle() != nil {
		return
	}
	for i := range n.r.peers {
		n.r.peers[i].group = 0
	}
}

// CheckGroupCommitConsistent reports whether everything committed is held by two commit groups. known is false on a node that can't
// tell: not the leader, or not applied up to its term.
func (n *RawNode) CheckGroupCommitConsistent() (ok, known bool) { return n.r.groupCommitConsistent() }
