package partition

import (
	"fmt"
	"slices"

	"lograft/raft"
	"lograft/segment"
)

// persistence is what waits for stable storage. Readys are synced in order of their numbers; one capture (SyncItem) covers every
// Ready up to its number.
type persistence struct {
	// Invariant: in order of number; a Ready that had nothing to persist is stable with the one before it.
	readys []unsynced
	dirty  bool   // entries were appended since the last capture
	hard   bool   // term, vote or a configuration entry changed since the last capture: both hard-state journals must have it
	lazy   bool   // only the commit index changed: written when convenient
	trim   bool   // hard, for the sake of a trim: also if no Ready waits
	commit uint64 // that a synced journal holds for sure
}

type unsynced struct {
	number  uint64
	persist bool           // it had something to persist
	send    []raft.Message // PersistedMessages; the core keeps them until OnPersistReady
	// commit must be in a synced journal, too, if the Ready holds a configuration change: whoever holds change k+1 for sure knows for sure
	// that k is committed (storage.md "Writing 3"). 0: it holds none.
	commit uint64
}

// SyncItem is one replica's share of a sync round: what must be on stable storage before Synced is called with it. Everything in it
// was captured at the end of one step.
type SyncItem struct {
	Replica *Replica
	Number  uint64            // the last Ready it covers
	Hard    *raft.HardState   // to both hard-state journals, synced before Log; nil if unchanged
	Log     *segment.SyncTask // nil if nothing was appended
	// Snapshot is the mark of a snapshot being installed, to be journalled and synced together with Hard; else nil.
	Snapshot *segment.SnapshotMark
}

// carryOut does what the core wants, in the order that its contract demands (raft/doc.go):
//
//	append -> remember the hard state -> send what needs no disk -> keep what does -> answer reads -> apply -> hand back
//
// Nothing here waits for the disk: Sync captures what must become stable, Synced goes on when it is.
func (r *Replica) carryOut(env *Env) {
	for r.fatal == nil && r.fill.ready == nil && r.node.HasReady() {
		rd := r.node.Ready()
		if rd.Snapshot != nil {
			r.beginInstall(env, rd)
			return
		}
		wasLeader := r.role == raft.StateLeader
		if rd.SoftState != nil {
			r.softState(env, rd.SoftState)
		}
		if err := r.append(env, rd.Entries, wasLeader && r.role == raft.StateLeader); err != nil {
			r.halt(env, err)
			return
		}
		r.rememberHardState(rd)
		r.termMoved(env)
		for i := range rd.Messages {
			r.send(env, &rd.Messages[i])
		}
		r.keepPersisted(env, rd)
		for _, rs := range rd.ReadStates {
			r.roundDone(env, rs)
		}
		for _, d := range rd.DroppedReads {
			r.roundDropped(d)
		}
		r.applyAll(env, rd.CommittedEntries)
		number, persisted := rd.Number, len(r.persist.readys) == 0
		r.node.AdvanceAppendAsync(rd)
		if persisted {
			r.node.OnPersistReady(number)
		}
		r.node.AdvanceApplyTo(r.applied)
	}
	if err := r.node.Err(); err != nil {
		r.halt(env, err)
	}
}

// EndStep finishes a step of this replica: it asks for a read round if one is due, carries out what the core has ready and moves
// the store's cold reads to the driver.
func (r *Replica) EndStep(env *Env) {
	if r.fatal != nil {
		return
	}
	r.carryOut(env)
	r.askRound(env)
	r.carryOut(env)
	r.advanceReads(env)
	if r.coordinate(env) {
		r.carryOut(env)
	}
	r.syncTrim()
	r.lead.refused = nil
	r.suspect(env, r.st.met)
	r.st.met = nil
	r.lookForDamage(env)
	r.makeSource(env)
	r.tellCore(env)
	for _, c := range r.st.cold {
		r.offWorker(env, c)
	}
	r.st.cold = r.st.cold[:0]
}

// softState follows a change of role or leader.
func (r *Replica) softState(env *Env, s *raft.SoftState) {
	if s.RaftState != raft.StateLeader && r.role == raft.StateLeader {
		r.role, r.leader = s.RaftState, s.LeaderID
		r.leaderLost(env, ReasonNotLeader)
		env.Stats.LeadershipsLost++
	}
	if s.RaftState == raft.StateLeader && r.role != raft.StateLeader {
		env.Stats.LeadershipsWon++
	}
	r.role, r.leader = s.RaftState, s.LeaderID
	r.leaderKnown(env)
	r.greetLeader(env)
}

func (r *Replica) announce(env *Env) {
	env.Leads = append(env.Leads, LeaderChange{Group: r.opts.Group, Leader: r.leader, LeaderNode: r.nodeOf(r.leader), Term: r.hard.Term, Local: r.role == raft.StateLeader})
}

// append writes entries to the log. own says that this replica made them as a leader: it stamped them itself.
func (r *Replica) append(env *Env, entries []raft.Entry, own bool) error {
	if len(entries) == 0 {
		return nil
	}
	t, err := r.tailBefore(entries[0].Index)
	if err != nil {
		return err
	}
	frames := r.st.frames[:0]
	for i := range entries {
		var f segment.Frame
		if f, t, err = frameOf(&entries[i], t); err != nil {
			return fmt.Errorf("%w (own entry: %t)", err, own)
		}
		frames = append(frames, f)
		env.Stats.LogPayloadBytes += uint64(len(f.Payload))
		if f.Kind == segment.KindData {
			env.Stats.LogBatches++
		}
	}
	r.st.frames = frames[:0]
	if err := r.log.Append(frames); err != nil {
		return fmt.Errorf("append [%d, %d]: %w", entries[0].Index, entries[len(entries)-1].Index, err)
	}
	r.persist.dirty = true
	if own {
		r.lead.noteAppended(env)
	}
	r.sealClosed()
	return nil
}

// tailBefore is the tail that the frame at index continues: the log's end, or an earlier point if index overwrites a suffix.
func (r *Replica) tailBefore(index uint64) (tail, error) {
	if index == r.log.LastIndex()+1 {
		return tail{offset: r.log.NextOffset(), appendTime: r.log.LastAppendTime()}, nil
	}
	f, err := r.log.FrameAt(index - 1)
	if err != nil {
		return tail{}, fmt.Errorf("overwrite from %d: %w", index, err)
	}
	return tail{offset: f.NextOffset(), appendTime: f.AppendTime}, nil
}

// rememberHardState notes what of a Ready's HardState must be stable before its PersistedMessages go (storage.md "Writing 3").
func (r *Replica) rememberHardState(rd *raft.Ready) {
	if !rd.HasHardState {
		return
	}
	voted := rd.HardState.Term != r.hard.Term || rd.HardState.Vote != r.hard.Vote
	if voted {
		r.persist.hard = true
	}
	if changesMembers(rd.Entries) {
		r.persist.hard = true
	}
	r.hard = rd.HardState
	r.persist.lazy = true
}

func changesMembers(entries []raft.Entry) bool {
	return slices.ContainsFunc(entries, func(e raft.Entry) bool { return e.Type != raft.EntryNormal })
}

// termMoved drops what an earlier leadership of this same replica had in flight: it may have lost and won between two Readys.
func (r *Replica) termMoved(env *Env) {
	if r.lead.ready && r.lead.term != r.hard.Term {
		r.leaderLost(env, ReasonNotLeader)
	}
}

// keepPersisted sends PersistedMessages at once if nothing is unstable, else keeps them until Synced.
func (r *Replica) keepPersisted(env *Env, rd *raft.Ready) {
	if rd.SoftState != nil {
		r.announce(env)
	}
	persist := rd.MustSync || len(rd.Entries) > 0
	if !persist && len(r.persist.readys) == 0 {
		for i := range rd.PersistedMessages {
			r.send(env, &rd.PersistedMessages[i])
		}
		return
	}
	u := unsynced{number: rd.Number, persist: persist, send: rd.PersistedMessages}
	if changesMembers(rd.Entries) {
		u.commit = r.hard.Commit
	}
	r.persist.readys = append(r.persist.readys, u)
}

func (r *Replica) send(env *Env, m *raft.Message) {
	if node := r.nodeOf(m.To); node != 0 && !r.silent(m) {
		env.Out.Send(node, r.opts.Group, m)
	}
}

// Sync captures what must become stable now. ok is false if nothing does. Several captures may be under way; a later one covers
// everything of an earlier one.
func (r *Replica) Sync() (item SyncItem, ok bool) {
	if item, ok = r.installMark(); ok || r.fatal != nil {
		return item, ok
	}
	waiting := len(r.persist.readys)
	if waiting == 0 && !r.persist.trim || !(r.persist.dirty || r.persist.hard) {
		return SyncItem{}, false
	}
	item = SyncItem{Replica: r}
	if waiting > 0 {
		item.Number = r.persist.readys[waiting-1].number
	}
	if r.persist.dirty {
		item.Log = r.log.BeginSync()
	}
	if r.persist.hard {
		item.Hard = r.journalledHardState()
		r.persist.lazy = false
	}
	r.persist.dirty, r.persist.hard, r.persist.trim = false, false, false
	return item, true
}

// journalledHardState is the hard state with Commit = min(commit, durable): the journal never claims what the log may lose.
func (r *Replica) journalledHardState() *raft.HardState {
	h := r.hard
	h.Commit = min(h.Commit, r.log.Durable())
	return &h
}

// HardStateWaits reports whether the commit index moved since the hard state was last captured.
func (r *Replica) HardStateWaits() bool { return r.fatal == nil && r.persist.lazy }

// LazyHardState is the hard state if only its commit index moved since it was last captured: the driver journals it when it syncs
// anyway, or now and then.
func (r *Replica) LazyHardState() (raft.HardState, bool) {
	if r.fatal != nil || !r.persist.lazy || r.persist.hard {
		return raft.HardState{}, false
	}
	r.persist.lazy = false
	return *r.journalledHardState(), true
}

// Synced goes on with what waited for item: err nil says that all of it is on stable storage. It returns the persist mark to be
// journalled lazily. An error halts the replica: it is never retried (storage.md "Writing 4").
func (r *Replica) Synced(env *Env, item SyncItem, err error) (mark segment.Mark, ok bool) {
	if r.fatal != nil {
		return segment.Mark{}, false
	}
	if item.Log != nil {
		if e := r.log.EndSync(item.Log, err); err == nil {
			err = e
		}
	}
	if err != nil {
		r.halt(env, fmt.Errorf("sync: %w", err))
		return segment.Mark{}, false
	}
	if item.Snapshot != nil {
		r.swap(env)
		return segment.Mark{}, false
	}
	r.trimSynced(env, item.Hard)
	if item.Hard != nil {
		r.persist.commit = max(r.persist.commit, item.Hard.Commit)
	}
	done := r.persist.readys
	n := 0
	for n < len(done) && (done[n].number <= item.Number || !done[n].persist) && done[n].commit <= r.persist.commit {
		n++
	}
	if n < len(done) && done[n].commit > r.persist.commit {
		r.persist.hard = true // the journal took what the log held before this round: now it holds more
	}
	if n > 0 {
		for i := range done[:n] {
			for j := range done[i].send {
				r.send(env, &done[i].send[j])
			}
		}
		number := done[n-1].number
		r.persist.readys = append(done[:0], done[n:]...)
		r.node.OnPersistReady(number)
	}
	if item.Log == nil {
		return segment.Mark{}, false
	}
	r.lead.noteSynced(env, r.log.Durable())
	return r.log.DurableMark(), true
}
