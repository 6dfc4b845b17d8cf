package partition

import (
	"fmt"

	"lograft/raft"
	"lograft/record"
	"lograft/segment"
)

// applyAll applies committed entries in order and answers who waited for them.
func (r *Replica) applyAll(env *Env, entries []raft.Entry) {
	for i := range entries {
		e := &entries[i]
		if err := r.apply(env, e); err != nil {
			r.halt(env, fmt.Errorf("apply entry %d term %d: %w", e.Index, e.Term, err))
			return
		}
		r.applied = e.Index
		r.becomeReady(e)
		r.resolve(env, e.Index)
		r.sealClosed()
	}
}

func (r *Replica) apply(env *Env, e *raft.Entry) error {
	if e.Type != raft.EntryNormal {
		return r.applyConfChange(e)
	}
	envl, ok, err := decodeEnvelope(e.Context)
	if err != nil {
		return err
	}
	if !ok {
		return nil // the core's own no-op
	}
	r.appendTime = envl.appendTime
	switch envl.kind {
	case segment.KindData:
		b, err := record.Parse(e.Data)
		if err != nil {
			return err
		}
		if b.BaseOffset() != r.high {
			return fmt.Errorf("batch at offset %d, the applied ones end at %d", b.BaseOffset(), r.high)
		}
		r.producers.apply(b, e.Index, envl.appendTime)
		r.high = b.NextOffset()
	case segment.KindCommand:
		if r.opts.Machine == nil || envl.flags&flagOwn != 0 {
			return r.applyOwn(e)
		}
		return r.applyCommand(env, e, envl.appendTime)
	case segment.KindConfig:
		return r.applyConfig(e)
	}
	return nil
}

func (r *Replica) applyCommand(env *Env, e *raft.Entry, appendTime int64) error {
	result := r.opts.Machine.Apply(e.Index, appendTime, e.Data)
	if m, ok := r.opts.Machine.(Limited); ok && m.Fault() != nil {
		return m.Fault()
	}
	id, ok := r.opts.Machine.RequestID(e.Data)
	if !ok {
		return nil
	}
	for _, w := range r.results[id] {
		env.reply(Reply{From: w.from, Token: w.token, Result: result, Applied: e.Index, AppendTime: appendTime, LeaderEpoch: int32(r.hard.Term)})
	}
	delete(r.results, id)
	return nil
}

func (r *Replica) applyConfChange(e *raft.Entry) error {
	var cc raft.ConfChanger
	var err error
	if e.Type == raft.EntryConfChange {
		cc, err = raft.UnmarshalConfChange(e.Data)
	} else {
		cc, err = raft.UnmarshalConfChangeV2(e.Data)
	}
	if err != nil {
		return err
	}
	if r.force.on {
		return r.forcedConf(cc)
	}
	// An error means that the change is invalid: on every replica the entry is an applied no-op (raft-api.md §1).
	if conf, err := r.node.ApplyConfChange(cc); err == nil {
		r.members.confirmed = sameConf(conf, r.conf)
		r.conf = conf
	}
	return nil
}

// becomeReady lets a leader judge appends once it has applied an entry of its own term: everything before it is applied then.
func (r *Replica) becomeReady(e *raft.Entry) {
	if r.lead.ready || r.role != raft.StateLeader || e.Term != r.hard.Term {
		return
	}
	if r.force.on {
		r.force.ready = true
		return
	}
	r.lead.ready, r.lead.term = true, e.Term
	r.lead.tail = tail{offset: r.log.NextOffset(), appendTime: r.log.LastAppendTime()}
	r.lead.known = r.producers.clone()
}

// sealClosed takes the checkpoint of a closed segment at the moment when its last entry is the last applied one.
func (r *Replica) sealClosed() {
	if last, ok := r.log.SealNext(r.applied); ok && last == r.applied && (len(r.seals) == 0 || r.seals[len(r.seals)-1].index < last) {
		r.seals = append(r.seals, seal{index: last, state: r.checkpoint()})
	}
}

func (r *Replica) checkpoint() []byte {
	c := checkpoint{conf: r.conf, logStart: r.trim.start, dropTo: r.trim.dropTo, trimIndex: r.trim.index, config: r.config, nextOffset: r.high, appendTime: r.appendTime, producers: r.producers}
	if r.opts.Machine != nil {
		c.machine = r.opts.Machine.Snapshot()
	}
	return c.encode()
}

// BeginSeal starts sealing the oldest closed segment whose checkpoint is taken, if its bytes are durable. One at a time: Do the
// task anywhere, then EndSeal.
func (r *Replica) BeginSeal() *segment.SealTask {
	if r.fatal != nil || len(r.seals) == 0 || r.fill.installing() {
		return nil
	}
	task := r.log.BeginSeal(r.seals[0].index, r.seals[0].state)
	if task != nil {
		r.seals = r.seals[1:]
	}
	return task
}

// EndSeal publishes a sealed segment. An error halts the replica.
func (r *Replica) EndSeal(env *Env, t *segment.SealTask, err error) {
	if r.fatal != nil {
		return
	}
	if e := r.log.EndSeal(t, err); err == nil {
		err = e
	}
	if err != nil {
		r.halt(env, fmt.Errorf("seal: %w", err))
	}
	r.dropSegments(env)
	r.sealClosed()
}
