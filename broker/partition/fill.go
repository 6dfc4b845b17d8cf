package partition

import (
	"errors"
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// Bounds and pace of filling. Ticks are those of the core.
const (
	fillsMax                = 4 // of one worker at a time; others wait their turn
	FillBytesPerTickDefault = 6 << 20
	fillChunkBytes          = segment.RangeBytesMax
	fillAnswerTicks         = 10 // then the same bytes are asked for again
	fillTriesMax            = 10
	fillBadMax              = 3 // files whose bytes were not what their hash says
)

// fillPhase is how far a snapshot has come. From fillQuiet on the core takes no messages.
type fillPhase uint8

const (
	fillNone      fillPhase = iota
	fillWaiting             // for one of the worker's fillsMax places
	fillWorking             // a file operation is under way off the worker
	fillAsking              // bytes were asked for
	fillPaused              // the bytes of this tick are used up, or the disk is at its reserve
	fillQuiet               // everything is here: what was appended is being synced, then the core is told
	fillPreparing           // the core wants it installed: the staged files are being synced
	fillMarking             // the journal's mark is being synced
	fillSwapping            // the files are being swapped
)

// fill is a snapshot on its way into this replica (architecture D12): its files are fetched and verified first, then the core is given
// MsgSnapshot, then the log is replaced as a whole (storage.md "Writing 7").
type fill struct {
	phase    fillPhase
	msg      raft.Message // the leader's MsgSnapshot
	hash     [32]byte     // of its manifest
	next     *raft.Message
	manifest segment.Manifest
	staging  *segment.Staging

	ask    pullAsk
	token  uint64
	ticks  int
	tries  int
	bad    int
	budget int
	pace   fillPace

	task   *segment.InstallTask
	ready  *raft.Ready // taken, not advanced
	marked bool
}

// installing reports whether the core waits for an install, or for what goes before it: it takes no messages then, and the log no
// appends, syncs or seals.
func (f *fill) installing() bool { return f.phase >= fillQuiet }

// job has work done off the worker, then calls then in a later step of this replica, unless it has halted or is gone.
func (r *Replica) job(env *Env, work func(), then func(*Env)) {
	r.offWorker(env, &ColdRead{work: work, then: then})
}

// takeSnapshot takes a leader's MsgSnapshot. What the core can answer at once it gets at once; else the files come first.
func (r *Replica) takeSnapshot(env *Env, m raft.Message) (held bool) {
	if m.Snapshot == nil || m.Term < r.hard.Term {
		return false
	}
	meta := &m.Snapshot.Metadata
	if r.damage.wanted && meta.Index < r.log.LastIndex() && !r.contradicts(meta) {
		r.refuseFill(env, &m, fmt.Errorf("a snapshot as of entry %d, the log to be replaced ends with %d", meta.Index, r.log.LastIndex()))
		return true
	}
	if term, err := r.log.Term(meta.Index); !r.damage.wanted && meta.Index <= max(r.hard.Commit, r.applied) || err == nil && term == meta.Term && len(r.damage.ranges) == 0 {
		return false
	}
	f := &r.fill
	man, err := segment.DecodeManifest(m.Snapshot.Data, segment.GroupID(r.opts.Group))
	if err == nil && (man.Last.Index != meta.Index || man.Last.Term != meta.Term) {
		err = fmt.Errorf("manifest as of entry %d in a snapshot as of %d", man.Last.Index, meta.Index)
	}
	if err != nil {
		r.refuseFill(env, &m, err)
		return true
	}
	switch {
	case f.phase == fillNone:
		r.beginFill(env, m, man)
	case f.installing():
	case f.hash == man.Hash():
		f.msg = m // perhaps of a newer leader
	case f.phase == fillWorking:
		f.next = &m
	default:
		r.endFill()
		r.beginFill(env, m, man)
	}
	return true
}

// contradicts reports whether a snapshot shows that what this log holds from its index on was never committed: it is of a later term than
// the log's last entry, so the entry there is another one (the core's rule for a snapshot below the one that it asked for, too).
func (r *Replica) contradicts(meta *raft.SnapshotMetadata) bool {
	term, err := r.log.Term(r.log.LastIndex())
	return err == nil && meta.Term > term
}

func (r *Replica) beginFill(env *Env, m raft.Message, man segment.Manifest) {
	f := &r.fill
	*f = fill{phase: fillWaiting, msg: m, manifest: man, hash: man.Hash(), token: f.token, budget: f.budget, pace: f.pace}
	r.stage(env)
}

// stage begins to look at what is here already.
func (r *Replica) stage(env *Env) {
	f := &r.fill
	if env.Fills >= fillsMax || !env.Disk.fits() {
		return // Tick tries again
	}
	st, err := r.log.Stage(f.manifest)
	if err != nil {
		r.fillFailed(env, err)
		return
	}
	env.Fills++
	f.staging, f.phase = st, fillWorking
	r.note(env, Note{Kind: NoteFilling, Peer: r.nodeOf(f.msg.From), Index: f.manifest.Last.Index, Bytes: f.manifest.Bytes()})
	var open error
	r.job(env, func() { open = st.Open() }, func(env *Env) {
		if open != nil {
			r.halt(env, fmt.Errorf("staged files: %w", open))
			return
		}
		have, of := st.Have()
		r.fill.pace.begin(env.Now, of-have)
		r.pull(env)
	})
}

// pull asks for the next bytes, within the pace.
func (r *Replica) pull(env *Env) {
	f := &r.fill
	if f.next != nil {
		m := *f.next
		r.endFill()
		r.takeSnapshot(env, m)
		return
	}
	base, off, more := f.staging.Next()
	if !more && r.lost.busy {
		r.installFiles(env)
		return
	}
	if !more {
		f.pace.end(env.Now)
		f.phase, f.ticks = fillQuiet, 0
		return
	}
	if f.budget <= 0 || !env.Disk.fits() {
		f.phase = fillPaused
		return
	}
	for _, s := range f.manifest.Segments {
		if s.Base == base {
			f.ask = pullAsk{file: s, off: off, bytes: uint32(min(fillChunkBytes, s.Bytes-off))}
		}
	}
	f.budget -= int(f.ask.bytes)
	env.Disk.take(int64(f.ask.bytes))
	f.tries = 0
	r.askPull(env)
}

func (r *Replica) askPull(env *Env) {
	f := &r.fill
	f.token++
	f.ask.token, f.phase, f.ticks = f.token, fillAsking, 0
	r.send(env, &raft.Message{Type: MsgPullAsk, From: r.opts.ReplicaID, To: f.msg.From, Context: f.ask.encode()})
}

// takePull writes what was asked for.
func (r *Replica) takePull(env *Env, m *raft.Message) {
	f := &r.fill
	a, ok := decodePullAnswer(m.Context)
	if !ok || f.phase != fillAsking || a.token != f.token || m.From != f.msg.From {
		return
	}
	if a.gone {
		r.fillFailed(env, errNoSource)
		return
	}
	if len(m.Entries) != 1 || len(m.Entries[0].Data) == 0 || sumOfEntries(m.Entries) != a.sum {
		return // damaged on the way: asked for again
	}
	f.phase = fillWorking
	st, data, base, off := f.staging, m.Entries[0].Data, f.ask.file.Base, f.ask.off
	var err error
	r.job(env, func() { err = st.Write(base, off, data) }, func(env *Env) {
		switch {
		case errors.Is(err, segment.ErrInvalid):
			r.send(env, &raft.Message{Type: MsgPullRefused, From: r.opts.ReplicaID, To: f.msg.From, Context: f.ask.encode()})
			if f.bad++; f.bad >= fillBadMax {
				r.fillFailed(env, err)
				return
			}
		case errors.Is(err, segment.ErrNoSpace):
			r.fillFailed(env, err)
			return
		case err != nil:
			r.halt(env, fmt.Errorf("staged files: %w", err))
			return
		}
		r.pull(env)
	})
}

// fillTick keeps a fill going: a place that became free, the bytes of a new tick, an answer that did not come.
func (r *Replica) fillTick(env *Env) {
	f := &r.fill
	perTick := r.opts.FillBytesPerTick * f.pace.factor()
	f.budget = min(f.budget+perTick, perTick)
	if f.phase == fillNone {
		return
	}
	f.ticks++
	switch f.phase {
	case fillWaiting:
		r.makeRoom(env)
		r.stage(env)
	case fillPaused:
		r.makeRoom(env)
		r.pull(env)
	case fillAsking:
		if f.ticks < fillAnswerTicks {
			return
		}
		if f.tries++; f.tries >= fillTriesMax {
			r.fillFailed(env, errors.New("the sender does not answer"))
			return
		}
		r.askPull(env)
		return
	}
	if f.ticks%fillAnswerTicks == 0 && !f.installing() {
		idle := pullAsk{}
		r.send(env, &raft.Message{Type: MsgPullAsk, From: r.opts.ReplicaID, To: f.msg.From, Context: idle.encode()})
	}
}

// refuseFill says that m's snapshot is not installed, so that the leader sends one again.
func (r *Replica) refuseFill(env *Env, m *raft.Message, err error) {
	index := m.Snapshot.Metadata.Index
	r.note(env, Note{Kind: NoteFillFailed, Peer: r.nodeOf(m.From), Index: index, Err: err})
	r.send(env, &raft.Message{Type: MsgPullFailed, From: r.opts.ReplicaID, To: m.From, Index: index})
}

// greetLeader tells the first leader after a start that no fill is under way here: one that sent a snapshot to the process before this one
// would wait for it until its timeout.
func (r *Replica) greetLeader(env *Env) {
	if r.greeted || r.leader == 0 || r.role == raft.StateLeader {
		return
	}
	r.greeted = true
	r.send(env, &raft.Message{Type: MsgPullFailed, From: r.opts.ReplicaID, To: r.leader})
}

// fillFailed gives the fill under way up. What was fetched stays for the next one.
func (r *Replica) fillFailed(env *Env, err error) {
	if !r.lost.busy { // of lost files another peer is asked
		r.refuseFill(env, &r.fill.msg, err)
	}
	r.endFill()
}

// endFill forgets the fill under way. The worker counts the places anew at its next tick.
func (r *Replica) endFill() {
	f := &r.fill
	if f.staging != nil {
		_ = f.staging.Close() // nothing of it was promised; what is on disk is a cache
	}
	r.fill = fill{token: f.token, budget: f.budget, pace: f.pace}
	r.lost.busy = false
}

// Installing reports whether a snapshot is being put in the place of the log.
func (r *Replica) Installing() bool { return r.fatal == nil && r.fill.phase >= fillPreparing }

// Filling reports whether the replica holds one of its worker's fillsMax places.
func (r *Replica) Filling() bool { return r.fatal == nil && r.fill.staging != nil }
