package partition

import (
	"fmt"
	"slices"

	"lograft/raft"
)

// forcing is how a group goes on whose voters are gone for good in their majority (`broker cluster recover --gone`). Raft can't change its
// configuration without them, so an operator has one of the replicas that are left, the one that holds most, do it alone:
//
//  1. Its core takes the configuration without those that are gone (raft.RawNode.OverrideConf), and it stands for election. The others that are
//     left vote as always: for nobody whose log is behind theirs. Those that may not vote or acknowledge give up before what forbids it
//     (RecoverVotes); none of them gets the override, because two that have applied different configurations could both win a term.
//  2. As a leader it brings the log there: one simple change for each replica that is gone, then a change of nothing, which makes sure that the
//     last one is committed wherever it is found (see confirm). Whoever replays the log reaches the same configuration.
//  3. Only then it is ready and takes appends.
//
// A crash in between forgets the override. The changes that were committed by it stay, so the configuration may be half-way: nobody is elected, as
// long as the old majority stays down, and the operator asks again. What is written to checkpoints meanwhile is r.conf, the configuration as the
// log has it; the core's differs.
//
// Safe as far as it can be: whoever asks has had the metadata retire the directories of those that are gone, so that no broker listens to
// them; this replica does not either, from the first step on (deafTo). What only they held is lost.
type forcing struct {
	on    bool
	gone  []uint64 // replica ids; also after the end: nobody listens to them again
	ready bool     // this replica leads and has applied an entry of its term
}

// stranded are the replicas of gone that are in the group's configuration as its log has it, and whether a majority of the voters, of now or of
// the joint configuration's other half, is among them.
func (r *Replica) stranded(gone []uint64) (in []uint64, lost bool) {
	for _, id := range gone {
		if id != r.opts.ReplicaID && slices.Contains(everyone(&r.conf), id) {
			in = append(in, id)
		}
	}
	for _, voters := range [...][]uint64{r.conf.Voters, r.conf.VotersOutgoing} {
		lost = lost || len(voters) > 0 && 2*len(without(voters, in)) <= len(voters)
	}
	return in, lost
}

// everyone are the ids of a configuration, some of them twice.
func everyone(c *raft.ConfState) []uint64 {
	return slices.Concat(c.Voters, c.VotersOutgoing, c.Learners, c.LearnersNext)
}

func without(ids, gone []uint64) (out []uint64) {
	for _, id := range ids {
		if !slices.Contains(gone, id) {
			out = append(out, id)
		}
	}
	return out
}

// beginForce takes the first step.
func (r *Replica) beginForce(env *Env, gone []uint64) {
	r.force = forcing{on: true, gone: gone}
	if err := r.override(); err != nil {
		r.halt(env, fmt.Errorf("go on without replicas %v: %w", gone, err))
		return
	}
	r.note(env, Note{Kind: NoteForced, Index: r.log.LastIndex(), From: r.log.NextOffset(), Gone: gone})
	_ = r.node.Campaign() // if it is refused now, the election timeout asks again
}

// override gives the core the configuration of the log without those that are gone. This replica becomes a voter if it was none: it holds more
// than the voters that are left.
func (r *Replica) override() error {
	keep := func(ids []uint64) []uint64 { return without(ids, r.force.gone) }
	c := raft.ConfState{Voters: keep(r.conf.Voters), Learners: keep(r.conf.Learners), VotersOutgoing: keep(r.conf.VotersOutgoing), LearnersNext: keep(r.conf.LearnersNext), AutoLeave: r.conf.AutoLeave}
	if !slices.Contains(c.Voters, r.opts.ReplicaID) {
		c.Voters = append(c.Voters, r.opts.ReplicaID)
	}
	if len(r.conf.VotersOutgoing) > 0 && len(c.VotersOutgoing) == 0 {
		c.VotersOutgoing = slices.Clone(c.Voters) // joint as the log is, so that it is left as every other
	}
	votes := func(id uint64) bool { return slices.Contains(c.Voters, id) }
	c.Learners = slices.DeleteFunc(c.Learners, func(id uint64) bool { return votes(id) || slices.Contains(c.VotersOutgoing, id) })
	c.LearnersNext = slices.DeleteFunc(c.LearnersNext, votes)
	return r.node.OverrideConf(c)
}

// forcedConf applies a configuration entry while the core's configuration is not the log's.
func (r *Replica) forcedConf(cc raft.ConfChanger) error {
	next, err := r.conf.After(cc)
	if err != nil {
		return nil // invalid: on every replica an applied no-op
	}
	r.members.confirmed = sameConf(next, r.conf)
	r.conf = next
	if joint, step := r.forceStep(); !joint && step == nil && r.members.confirmed {
		r.force.on, r.force.ready = false, false
		return r.node.OverrideConf(r.conf)
	}
	return r.override()
}

// forceStep is the next change of the log's configuration; joint: it has to be left first, which the core does.
func (r *Replica) forceStep() (joint bool, step *raft.ConfChangeSingle) {
	if len(r.conf.VotersOutgoing) > 0 {
		return true, nil
	}
	if !slices.Contains(r.conf.Voters, r.opts.ReplicaID) {
		return false, &raft.ConfChangeSingle{Type: raft.ConfChangeAddNode, NodeID: r.opts.ReplicaID}
	}
	for _, id := range r.force.gone {
		if slices.Contains(everyone(&r.conf), id) {
			return false, &raft.ConfChangeSingle{Type: raft.ConfChangeRemoveNode, NodeID: id}
		}
	}
	return false, nil
}

// forceTick proposes the next change while this replica leads. It reports whether EndStep has work.
func (r *Replica) forceTick() bool {
	if !r.force.ready || r.role != raft.StateLeader || r.lead.changing.pending > r.applied {
		return false
	}
	joint, step := r.forceStep()
	switch {
	case joint:
		return false
	case step == nil:
		return r.confirm()
	}
	return r.changeMembers(*step)
}

// deafTo reports whether a message comes from a replica that was given up.
func (r *Replica) deafTo(id uint64) bool { return slices.Contains(r.force.gone, id) }
