// Package partition is one replica of one Raft group: a raft.RawNode, a segment.Log that is its Raft log, and the state machine
// that the log feeds. A Replica is a step machine: it starts no goroutine, takes no lock and reads no clock. Its worker calls it,
// then carries out what it left in Env and in SyncItem.
//
// The order of effects that keeps the promises of raft/doc.go lives in carryOut (ready.go).
package partition

import (
	"errors"
	"fmt"
	"slices"

	"lograft/raft"
	"lograft/record"
	"lograft/segment"
)

// Machine is the replicated state of a group that is not a data partition (architecture D10). It is a pure function of the
// commands that it applied.
type Machine interface {
	// Apply carries out a committed command. appendTime is the entry's (ms). The result is what the proposer is answered.
	Apply(index uint64, appendTime int64, command []byte) (result []byte)
	// RequestID names a command for the one who waits for it, on whichever broker it was proposed.
	RequestID(command []byte) (id [16]byte, ok bool)
	Snapshot() []byte
	Restore(b []byte) error
}

// Limited is a Machine that may come upon a command that its build does not carry out. Fault says so after Apply: the replica halts
// before the entry counts as applied, so that a newer build applies it.
type Limited interface{ Fault() error }

// Peer binds a replica id to the broker that hosts it.
type Peer struct {
	ReplicaID, Node uint64
}

// Options builds a Replica.
type Options struct {
	Group     GroupID
	ReplicaID uint64
	Peers     []Peer         // every replica of the group, this one included, until SetMembership says otherwise
	Birth     raft.ConfState // configuration of the birth snapshot (architecture D12)
	Born      uint64         // index of the birth snapshot, 0 for a replica that was not born with its group: Birth is empty then
	Log       *segment.Log   // opened; owned by the replica from here on
	Hard      raft.HardState // from the journal, with the rules of storage.md "Writing 3" applied (see RestoredHardState)
	Machine   Machine        // nil: a data partition
	Config    Config         // data partitions: the settings that the partition was born with
	// NoVote keeps the replica from standing for election. While its log is damaged it stands for none either.
	NoVote bool
	// Refill says that the log was lost and begins with nothing, see Refilling. Whole, called once, off the worker, when everything is here
	// again, makes that durable; its error halts the replica.
	Refill bool
	Whole  func() error
	// FirstLeader makes the replica stand for election at once while the group has never had a leader: a new topic is usable
	// without waiting for an election timeout.
	FirstLeader bool

	ElectionTicks, HeartbeatTicks int
	Rand                          func(n int) int
	ForwardProposals              bool // state machine groups: a follower hands proposals to its leader

	BytesPerMessage, BytesInflight, BytesUncommitted uint64 // 0: defaults
	MessagesInflight                                 int    // 0: default
	ReadTimeoutNs                                    int64  // default deadline of a request, 0: 5 s

	CatchUpBytes     int64 // a peer that lacks more sealed bytes is sent files (architecture D12), 0: CatchUpBytesDefault
	FillBytesPerTick int   // at which this replica fetches them, 0: FillBytesPerTickDefault
	PreferWindows    int   // election timeouts before leadership goes to the preferred leader (Membership.Preferred), 0: it stays where it is
}

// Defaults of Options (architecture D9, D19; performance.md "Choices" 9).
const (
	BytesPerMessageDefault  = 1 << 20
	BytesInflightDefault    = 4 << 20
	BytesUncommittedDefault = 32 << 20
	MessagesInflightDefault = 64
	bytesApplyPerReady      = 8 << 20
	readTimeoutDefaultNs    = int64(5e9)
)

// Replica is owned by one worker: every method is called by it, between steps of nobody else.
type Replica struct {
	opts Options
	node *raft.RawNode
	st   *store
	log  *segment.Log

	// What the core believes, as of the last SoftState and HardState.
	role   raft.StateRole
	leader uint64
	hard   raft.HardState

	// Applied state.
	applied   uint64
	conf      raft.ConfState
	producers producers
	logStart  int64 // as shown: see trimming
	trim      trimming
	config    Config
	// Invariant: high is the next offset after applied; high <= log.NextOffset().
	high       int64
	appendTime int64 // of the last applied entry

	want     Config // the newest settings that this broker knows; see Configure
	openedAt uint64 // commit index that the journal held when the replica was opened

	members   members
	transfers []handover
	lead      leadership
	prefer    preferring
	reads     reads
	persist   persistence
	slow      slowDisk
	full      int // ticks for which this leader's disk has been at its reserve while a majority has room
	damage    damage
	fill      fill
	greeted   bool // the first leader after the start knows that no fill is under way
	scrub     scrub
	refill    refill
	force     forcing
	lost      lostFiles
	heard     int                   // ticks since the leader spoke
	reading   int                   // ColdReads that are with the driver
	results   map[[16]byte][]waiter // state machine groups: who waits for which command
	asks      asking

	seals []seal
	fatal error
}

// seal is a checkpoint taken when the last entry of a closed segment was applied; the segment can be sealed with it.
type seal struct {
	index uint64
	state []byte
}

// waiter is who asked.
type waiter struct {
	from, token uint64
	deadline    int64 // monotonic ns
}

// New builds a replica on an opened log: its state is that of the log's newest checkpoint, or of birth, and the core applies the
// committed entries after it again.
func New(opts Options) (*Replica, error) {
	if opts.BytesPerMessage == 0 {
		opts.BytesPerMessage = BytesPerMessageDefault
	}
	if opts.BytesInflight == 0 {
		opts.BytesInflight = BytesInflightDefault
	}
	if opts.BytesUncommitted == 0 {
		opts.BytesUncommitted = BytesUncommittedDefault
	}
	if opts.MessagesInflight == 0 {
		opts.MessagesInflight = MessagesInflightDefault
	}
	if opts.CatchUpBytes == 0 {
		opts.CatchUpBytes = CatchUpBytesDefault
	}
	if opts.FillBytesPerTick == 0 {
		opts.FillBytesPerTick = FillBytesPerTickDefault
	}
	if opts.ReadTimeoutNs == 0 {
		opts.ReadTimeoutNs = readTimeoutDefaultNs
	}
	r := &Replica{opts: opts, log: opts.Log, hard: opts.Hard, conf: opts.Birth, producers: producers{}, results: map[[16]byte][]waiter{}}
	r.asks.coordinator, _ = opts.Machine.(Coordinator)
	r.members = members{peers: opts.Peers, confirmed: true}
	r.applied = r.log.FirstIndex() - 1
	r.logStart = r.log.StartOffset()
	r.high = r.logStart
	r.trim.start, r.config = r.logStart, opts.Config
	if err := r.restore(); err != nil {
		return nil, err
	}
	r.members.confirmed = sameConf(r.conf, opts.Birth)
	r.hard.Commit = max(r.hard.Commit, r.applied)
	r.openedAt = r.hard.Commit
	r.st = &store{log: r.log, hard: r.hard, conf: r.conf, catchUpBytes: opts.CatchUpBytes}
	cfg := raft.DefaultConfig(opts.ReplicaID)
	cfg.ElectionTick, cfg.HeartbeatTick = opts.ElectionTicks, opts.HeartbeatTicks
	cfg.MinElectionTick, cfg.MaxElectionTick = opts.ElectionTicks, opts.ElectionTicks+max(1, opts.ElectionTicks/2)
	cfg.Applied = r.applied
	cfg.MaxSizePerMsg = opts.BytesPerMessage
	cfg.MaxInflightMsgs, cfg.MaxInflightBytes = opts.MessagesInflight, opts.BytesInflight
	cfg.MaxUncommittedSize = opts.BytesUncommitted
	cfg.MaxCommittedSizePerReady = bytesApplyPerReady
	cfg.MaxApplyUnpersistedLogLimit = 0
	cfg.DisableProposalForwarding = !opts.ForwardProposals
	cfg.SkipBcastCommit, cfg.QuietCommits = false, true
	cfg.CheckQuorum, cfg.PreVote, cfg.EagerElections = true, true, true
	cfg.Rand = opts.Rand
	node, err := raft.NewRawNode(cfg, r.st)
	if err != nil {
		return nil, fmt.Errorf("group %x: %w", opts.Group, err)
	}
	r.node = node
	r.log.SealNext(r.applied)
	r.damage.ranges = r.log.Faulty()
	r.damage.lastUnknown = r.lastIsUnknown()
	r.beginRefill()
	node.SetElectable(r.electable())
	return r, nil
}

// ErrStateLost is matched by New where the log is good and the state that it continues can't be read: the replica must be refilled.
var ErrStateLost = errors.New("the checkpoint that the log continues is lost")

// restore sets the applied state to the log's newest checkpoint.
func (r *Replica) restore() error {
	index, data, ok := r.log.Checkpoint()
	if !ok {
		if r.log.FirstIndex() > r.opts.Born+1 {
			return fmt.Errorf("group %x: %w: the log begins after entry %d", r.opts.Group, ErrStateLost, r.log.FirstIndex()-1)
		}
		return nil
	}
	c, err := decodeCheckpoint(data)
	if err != nil {
		return fmt.Errorf("group %x: checkpoint at %d: %w: %w", r.opts.Group, index, ErrStateLost, err)
	}
	r.applied, r.conf, r.producers, r.high, r.appendTime = index, c.conf, c.producers, c.nextOffset, c.appendTime
	// A snapshot's sender may have dropped files for a trim that is committed after the snapshot.
	r.logStart = max(r.logStart, c.logStart, r.log.StartOffset())
	r.trim = trimming{start: c.logStart, dropTo: c.dropTo, index: c.trimIndex, stable: c.trimIndex}
	r.config = c.config
	r.members.confirmed = sameConf(r.conf, r.opts.Birth) // else nothing is known of what came after the change
	if r.opts.Machine != nil {
		if err := r.opts.Machine.Restore(c.machine); err != nil {
			return fmt.Errorf("group %x: state at %d: %w: %w", r.opts.Group, index, ErrStateLost, err)
		}
	}
	return nil
}

// RestoredHardState applies the rules of storage.md "Writing 3" to a journalled hard state: the term is at least that of the last
// good frame, with the vote withheld from others if that raised it, and the commit index at least the newest checkpoint's.
func RestoredHardState(h raft.HardState, l *segment.Log, replicaID uint64) raft.HardState {
	if term := l.LastTerm(); term > h.Term {
		h.Term, h.Vote = term, replicaID
	}
	if index, _, ok := l.Checkpoint(); ok {
		h.Commit = max(h.Commit, index)
	}
	h.Commit = max(min(h.Commit, l.LastIndex()), l.FirstIndex()-1)
	return h
}

// Group is the id of the replica's group.
func (r *Replica) Group() GroupID { return r.opts.Group }

// Alone reports whether this replica is the only one of its group, as far as it has applied.
func (r *Replica) Alone() bool {
	return len(r.conf.Voters) == 1 && r.conf.Voters[0] == r.opts.ReplicaID && len(r.conf.VotersOutgoing)+len(r.conf.Learners) == 0
}

// Node gives the core to tests and to Describe; nobody else drives it.
func (r *Replica) Node() *raft.RawNode { return r.node }

// halted is the answer of a replica that has stopped for good: the other replicas of its group go on, so it sends clients there.
func (r *Replica) halted() *Error {
	return &Error{Reason: ReasonShutdown, Message: r.fatal.Error() + ": ask another broker"}
}

// Err is why the replica halted, nil while it works. A halted replica answers everything with ReasonShutdown and does nothing else.
func (r *Replica) Err() error { return r.fatal }

// Leader is the replica id, node and term of the leader that this replica knows, zero if none.
func (r *Replica) Leader() (replica, node, term uint64) {
	return r.leader, r.nodeOf(r.leader), r.hard.Term
}

// IsLeader reports whether this replica leads and has applied its own no-op, so that it accepts appends.
func (r *Replica) IsLeader() bool { return r.lead.ready }

// HighWatermark is the next offset after the applied ones.
func (r *Replica) HighWatermark() int64 { return r.high }

// Applied is the index of the last applied entry.
func (r *Replica) Applied() uint64 { return r.applied }

func (r *Replica) voterNodes(dst []uint64) []uint64 {
	for _, id := range r.conf.Voters {
		dst = append(dst, r.nodeOf(id))
	}
	return dst
}

// halt stops the replica for good. Nothing of an unsynced Ready may be sent or applied any more.
func (r *Replica) halt(env *Env, err error) {
	if r.fatal != nil {
		return
	}
	r.fatal = fmt.Errorf("group %x replica %d halted: %w", r.opts.Group, r.opts.ReplicaID, err)
	r.leaderLost(env, ReasonShutdown)
	r.failReads(env, ReasonShutdown)
	r.failTransfers(env)
	r.rest(env, r.halted())
	r.leader = 0
	env.Leads = append(env.Leads, LeaderChange{Group: r.opts.Group, Term: r.hard.Term})
}

// Tick moves the core's time on by one tick and answers requests whose deadline passed. It reports whether EndStep has work.
func (r *Replica) Tick(env *Env) bool {
	if r.fatal != nil {
		return false
	}
	ready := r.node.Tick()
	r.heard++
	if r.opts.FirstLeader && r.leader == 0 && r.log.LastIndex() < r.log.FirstIndex() {
		ready = r.node.Campaign() == nil || ready // an error says that it can't be elected: others stand later
	}
	r.watchDisk()
	r.watchPeersSpace(env)
	r.watchSpace(env)
	r.expire(env)
	ready = r.transferTick(env) || ready
	ready = r.houseTick(env) || ready
	ready = r.memberTick(env) || ready
	ready = r.preferTick(env) || ready
	r.repairTick(env)
	r.filesTick(env)
	r.fillTick(env)
	r.refillTick(env)
	r.scrubTick(env)
	r.expireSources(env)
	return r.tickCoordinator(env) || ready || len(r.reads.queued) > 0
}

// Step takes a message of another replica of the group, which came from broker `from`. Messages for another replica id, or from one
// that is not in the group, are ignored: they are addressed to an earlier life of this directory. So are those that claim a sender
// on another broker than the one they came from: no broker speaks for another.
func (r *Replica) Step(env *Env, from uint64, m raft.Message) {
	if r.fatal != nil || m.To != r.opts.ReplicaID || from == 0 || r.nodeOf(m.From) != from || r.deafTo(m.From) {
		return
	}
	switch m.Type {
	case MsgRepairAsk:
		r.answerRepair(env, &m)
		return
	case MsgRepairAnswer:
		r.takeRepair(env, &m)
		return
	case MsgPullAsk:
		r.servePull(env, &m)
		return
	case MsgPullAnswer:
		r.takePull(env, &m)
		return
	case MsgPullRefused:
		r.takeRefused(env, &m)
		return
	case MsgFilesAsk:
		r.answerFiles(env, &m)
		return
	case MsgFilesAnswer:
		r.takeFiles(env, &m)
		return
	case MsgRefillAsk:
		r.answerRefill(env, &m)
		return
	case MsgRefillAnswer:
		r.takeRefill(&m)
		return
	case MsgPullFailed:
		if r.role == raft.StateLeader {
			r.node.ReportSnapshot(m.From, raft.SnapshotFailure)
		}
		return
	case raft.MsgSnapshot:
		if r.takeSnapshot(env, m) {
			return
		}
	case raft.MsgPropose:
		r.proposeForwarded(env, m)
		return
	}
	if m.From == r.leader && m.Term == r.hard.Term {
		r.heard = 0
	}
	if m.Type == raft.MsgAppend {
		for i := range m.Entries {
			if err := checkPayload(&m.Entries[i]); err != nil {
				return // damaged on the way: the leader sends it again
			}
		}
	}
	if r.deaf(env, &m) || r.fill.installing() || m.Type == raft.MsgAppend && r.withholds(env, &m) {
		return
	}
	if err := r.node.Step(m); err != nil && errors.As(err, new(*raft.FatalError)) {
		r.halt(env, err)
	}
}

// checkPayload checks the batch CRC of a data entry that came from a peer: one CRC per hop (performance.md "Choices" 12).
func checkPayload(e *raft.Entry) error {
	env, ok, err := decodeEnvelope(e.Context)
	if err != nil || !ok || env.kind != segment.KindData {
		return err
	}
	b, err := record.Parse(e.Data)
	if err != nil {
		return err
	}
	return b.CheckCRC()
}

// Dropped says that messages to a replica were dropped on the way out.
func (r *Replica) Dropped(to uint64, snapshot bool) {
	if r.fatal != nil {
		return
	}
	if snapshot {
		r.node.ReportSnapshot(to, raft.SnapshotFailure)
		return
	}
	r.node.ReportUnreachable(to)
}

// Close releases the log. Requests still waiting are answered ReasonShutdown.
func (r *Replica) Close(env *Env) error {
	r.leaderLost(env, ReasonShutdown)
	r.failReads(env, ReasonShutdown)
	r.failTransfers(env)
	r.rest(env, &Error{Reason: ReasonShutdown, Message: "the replica stopped: ask another"})
	return r.log.Close()
}

// Do carries out a request. The answer is in env.Replies now or after a later step.
func (r *Replica) Do(env *Env, q *Request) {
	if r.fatal != nil {
		env.fail(q, r.halted())
		return
	}
	if q.Deadline == 0 {
		q.Deadline = env.Now + r.opts.ReadTimeoutNs
	}
	switch q.Op {
	case OpProduce:
		r.produce(env, q)
	case OpPropose:
		r.propose(env, q)
	case OpFetch, OpListOffset, OpEpochEnd, OpBarrier, OpQuery:
		if r.refill.on {
			env.fail(q, &Error{Reason: ReasonFaulty, Message: "this replica lost its log and is being refilled from the others: ask another broker", Leader: r.leader, LeaderNode: r.nodeOf(r.leader)})
			return
		}
		r.read(env, q)
	case OpAsk:
		r.ask(env, q)
	case OpTrim:
		r.trimTo(env, q)
	case OpRelease:
		r.releaseProducer(env, q)
	case OpTransfer:
		r.transfer(env, q)
	case OpScrub:
		if q.Offset == 1 {
			r.startScrub()
		}
		env.reply(Reply{From: q.From, Token: q.Token, LeaderEpoch: int32(r.hard.Term), Describe: r.describe(), Scrub: r.scrubState()})
	case OpRecover:
		r.recover(env, q)
	case OpDescribe:
		env.reply(Reply{From: q.From, Token: q.Token, LeaderEpoch: int32(r.hard.Term), Describe: r.describe()})
	default:
		env.fail(q, &Error{Reason: ReasonInvalid, Message: fmt.Sprintf("unknown operation %d", q.Op)})
	}
}

// Cancel forgets every waiting request of a session that is gone. Appends already proposed stay proposed.
func (r *Replica) Cancel(from uint64) {
	r.lead.cancel(from)
	r.reads.cancel(from)
	r.forgetAsks(from)
	r.transfers = slices.DeleteFunc(r.transfers, func(h handover) bool { return h.from == from })
	for id, ws := range r.results {
		if ws = slices.DeleteFunc(ws, func(w waiter) bool { return w.from == from }); len(ws) == 0 {
			delete(r.results, id)
		} else {
			r.results[id] = ws
		}
	}
}

func (r *Replica) describe() *Description {
	d := &Description{
		ReplicaID: r.opts.ReplicaID, LeaderID: r.leader, Term: r.hard.Term,
		FirstIndex: r.log.FirstIndex(), LastIndex: r.log.LastIndex(), Applied: r.applied,
		LogStart: r.logStart, NextOffset: r.log.NextOffset(), HighWatermark: r.high, SizeBytes: r.log.SizeBytes(),
		Voters: slices.Clone(r.conf.Voters), Learners: slices.Clone(r.conf.Learners),
		Faulty: slices.Clone(r.damage.ranges), Repaired: r.damage.entries, Refilling: r.refill.on,
	}
	if r.role == raft.StateLeader {
		d.Match = map[uint64]uint64{}
		r.node.VisitProgress(func(id uint64, pr *raft.Progress) { d.Match[id] = pr.Match })
	}
	return d
}

func (r *Replica) notLeader(o Outcome) *Error {
	msg := "no leader is known: an election is under way or a majority of the partition's brokers is unreachable; retry, and see: broker cluster health"
	if r.leader != 0 {
		msg = fmt.Sprintf("replica %d on node %d leads", r.leader, r.nodeOf(r.leader))
	}
	return &Error{Reason: ReasonNotLeader, Message: msg, Outcome: o, Leader: r.leader, LeaderNode: r.nodeOf(r.leader), LeaderEpoch: int32(r.hard.Term)}
}
