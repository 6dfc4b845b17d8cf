package partition

import (
	"errors"
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// tellCore gives the core the snapshot whose files are all here, once nothing of the old log waits for the disk. What the core then
// wants installed is installed; if it wants nothing, its log has caught up meanwhile.
func (r *Replica) tellCore(env *Env) {
	f := &r.fill
	if r.fatal != nil || f.phase != fillQuiet || len(r.persist.readys) > 0 {
		return
	}
	task, err := r.log.BeginInstall(f.staging)
	if errors.Is(err, segment.ErrBusy) {
		return
	}
	if err != nil {
		r.fillFailed(env, err)
		return
	}
	f.task = task
	if err := r.node.Step(f.msg); err != nil && errors.As(err, new(*raft.FatalError)) {
		r.halt(env, err)
		return
	}
	r.carryOut(env)
	if r.fatal == nil && f.phase == fillQuiet {
		r.endFill()
	}
}

// beginInstall takes the core's Ready that holds the snapshot. Nothing of it is sent, and no other Ready taken, before the log is
// replaced: what the core is given meanwhile it refuses, and the senders retry.
func (r *Replica) beginInstall(env *Env, rd *raft.Ready) {
	f := &r.fill
	if f.task == nil || rd.Snapshot.Metadata.Index != f.manifest.Last.Index || len(rd.Entries) > 0 {
		r.halt(env, fmt.Errorf("the core wants a snapshot at entry %d that was not fetched", rd.Snapshot.Metadata.Index))
		return
	}
	if rd.SoftState != nil {
		r.softState(env, rd.SoftState)
		r.announce(env)
	}
	r.hard = rd.HardState
	r.termMoved(env)
	f.ready, f.phase = rd, fillPreparing
	var err error
	r.job(env, func() { err = f.task.Prepare() }, func(env *Env) {
		if err != nil {
			r.halt(env, fmt.Errorf("staged files: %w", err))
			return
		}
		f.phase = fillMarking
	})
}

// installMark is the sync of the mark that makes the snapshot count, whatever happens from then on. With it go term and vote: Ready is
// persisted as a unit. Commit stays what the old log can hold; the mark says the rest.
func (r *Replica) installMark() (item SyncItem, ok bool) {
	f := &r.fill
	if f.phase != fillMarking || f.marked {
		return item, false
	}
	f.marked = true
	mark := f.task.Mark()
	return SyncItem{Replica: r, Number: f.ready.Number, Hard: r.journalledHardState(), Snapshot: &mark}, true
}

// swap replaces the files: the mark is on stable storage.
func (r *Replica) swap(env *Env) {
	f := &r.fill
	f.phase = fillSwapping
	var err error
	r.job(env, func() { err = f.task.Do() }, func(env *Env) {
		_, err = r.log.EndInstall(f.task, err)
		if err == nil {
			err = r.restore()
		}
		if err != nil {
			r.halt(env, fmt.Errorf("install the snapshot at entry %d: %w", f.manifest.Last.Index, err))
			return
		}
		r.installed(env)
	})
}

// installed goes on with what waited for the install.
func (r *Replica) installed(env *Env) {
	f := r.fill
	r.st.sources.all, r.st.fetched, r.seals = nil, nil, nil
	r.log.SealNext(r.applied)
	r.log.ForgetCheckpoint()
	r.lookForDamage(env) // what was damaged is gone with the old log, and so is the reason to be silent
	r.replaceLog()
	for i := range f.ready.Messages {
		r.send(env, &f.ready.Messages[i])
	}
	for i := range f.ready.PersistedMessages {
		r.send(env, &f.ready.PersistedMessages[i])
	}
	r.persist.lazy = true
	number := f.ready.Number
	r.node.AdvanceAppendAsync(f.ready)
	r.node.OnPersistReady(number)
	r.node.AdvanceApplyTo(r.applied)
	r.note(env, Note{Kind: NoteFilled, Peer: r.nodeOf(f.msg.From), Index: f.manifest.Last.Index, Bytes: f.manifest.Bytes()})
	r.endFill()
}
