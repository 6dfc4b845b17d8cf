package partition

import (
	"errors"
	"fmt"
	"slices"

	"lograft/raft"
	"lograft/segment"
)

// Recovery is what giving up costs on one replica of a partition that has no leader (`broker cluster recover`): all of it is shown before
// anything is done.
type Recovery struct {
	ReplicaID uint64
	// Refilling: the log was lost and what it held beyond LastIndex, as far as no other replica holds it, is given up: the replica votes
	// again with what it has. Ordinary elections find the most complete replica.
	Refilling bool
	LastIndex uint64
	// [From, To) are the records given up because entries among them are damaged in every copy: whole segments, up to the end of the last
	// damaged one. Equal: none.
	From, To int64
	Done     bool
	Problem  string // why nothing can be given up here; empty if all is well
	// LastTerm and NextOffset are the end of this replica's log: of the replicas that are left, the one with the highest (LastTerm, LastIndex)
	// holds most, and whatever was acknowledged at NextOffset or later is lost if that one has to do.
	LastTerm   uint64
	NextOffset int64
	LogStart   int64
	// Gone are the replicas, of those that the request says never come back, that are in the group's configuration here; Stranded: a majority of
	// its voters is among them, so that only force brings the group back.
	Gone     []uint64
	Stranded bool
	Leader   uint64 // node, 0: none was heard lately
	Voter    bool   // the configuration here gives this replica a vote
	DropTo   uint64 // the entries up to this one are given up, because of damage among them; 0: none
}

// recover carries out OpRecover. It gives up data because an operator said so, on this replica alone; each replica of the group is told the
// same. What is dropped are whole sealed segments, which are the same bytes everywhere, so the replicas agree on where the log begins; the
// leader that can then be elected trims to there, so that one that was away follows.
//
// A replica that hears a leader refuses: then repair, refill and trim work without any loss of safety.
func (r *Replica) recover(env *Env, q *Request) {
	out := r.recovery(q)
	answer := func() {
		if out.Done && out.Stranded && q.Offset == RecoverForce {
			r.beginForce(env, out.Gone)
		}
		env.reply(Reply{From: q.From, Token: q.Token, LeaderEpoch: int32(r.hard.Term), Recovery: &out})
	}
	if q.Offset == RecoverPlan || out.Problem != "" {
		answer()
		return
	}
	if out.DropTo > 0 {
		switch err := r.log.TruncateFront(out.DropTo); {
		case errors.Is(err, segment.ErrInvalid):
			out.Problem = "entries that were overwritten wait for their sync: ask again"
			answer()
			return
		case err != nil:
			r.halt(env, fmt.Errorf("give up damaged segments: %w", err))
			env.fail(q, r.halted())
			return
		}
		r.logStart = max(r.logStart, r.log.StartOffset())
		r.note(env, Note{Kind: NoteGivenUp, From: out.From, To: r.logStart})
		r.lookForDamage(env)
	}
	out.Done = true
	if !r.refill.on {
		answer()
		return
	}
	r.note(env, Note{Kind: NoteGivenUp, Index: out.LastIndex})
	r.endRefill(env, answer)
}

// recovery is what could be given up here.
func (r *Replica) recovery(q *Request) Recovery {
	out := Recovery{ReplicaID: r.opts.ReplicaID, Refilling: r.refill.on, LastIndex: r.log.LastIndex(), LastTerm: r.log.LastTerm(), NextOffset: r.log.NextOffset(),
		LogStart: r.logStart, From: r.logStart, To: r.logStart, Voter: slices.Contains(r.conf.Voters, r.opts.ReplicaID) || slices.Contains(r.conf.VotersOutgoing, r.opts.ReplicaID)}
	out.Gone, out.Stranded = r.stranded(q.Gone)
	if r.led() {
		out.Leader = r.nodeOf(r.leader)
	}
	switch {
	case r.led():
		out.Problem = fmt.Sprintf("node %d leads the partition: nothing needs to be given up; damage is repaired, and broker topic trim gives up records that no copy holds", r.nodeOf(r.leader))
		return out
	case r.refill.ending, r.fill.phase != fillNone:
		out.Problem = "a refill is under way: wait for it"
		return out
	}
	for i := range r.damage.ranges {
		f := &r.damage.ranges[i]
		end := r.damageEnd(f)
		if end.Last == 0 || end.Last > r.applied {
			out.Problem = fmt.Sprintf("the damage reaches into what is not sealed or not applied yet (%v): put a copy of the files back; if there is none, stop the broker and run: broker log recover DATA-DIR/groups/%x", *f, r.opts.Group)
			out.To, out.DropTo = out.From, 0
			return out
		}
		out.DropTo, out.To = max(out.DropTo, end.Last), max(out.To, end.NextOffset)
	}
	if out.DropTo > 0 && !r.checkpointed(out.DropTo) {
		out.Problem = fmt.Sprintf("the damage (up to entry %d) can't be dropped: no checkpoint here says what state the entries after it continue; if no other replica can repair it, stop the broker and run: broker log recover DATA-DIR/groups/%x", out.DropTo, r.opts.Group)
		out.To, out.DropTo = out.From, 0
	}
	return out
}

// checkpointed reports whether a checkpoint is on disk that holds what the entries up to index did: without one they may not go, whatever they
// carry, because the next start could not tell the group's configuration and state.
func (r *Replica) checkpointed(index uint64) bool {
	return slices.ContainsFunc(r.log.Extents(nil), func(x segment.Extent) bool { return x.State && x.Last >= index })
}

// led reports whether there is a leader: this replica, or one that spoke within two election timeouts. Who stands for no election never
// forgets the last one.
func (r *Replica) led() bool {
	return r.role == raft.StateLeader || r.leader != 0 && r.heard <= 2*r.opts.ElectionTicks
}

// damageEnd is the sealed segment with which damage f ends, or that follows it where the file is gone; zero if there is none.
func (r *Replica) damageEnd(f *segment.FaultyRange) segment.Extent {
	if f.To == 0 {
		return segment.Extent{}
	}
	for _, x := range r.log.Extents(nil) {
		if x.Last >= f.To && x.Last >= x.Base {
			if x.Sealed {
				return x
			}
			break
		}
	}
	return segment.Extent{}
}
