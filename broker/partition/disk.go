package partition

import (
	"errors"
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// Disk is what a worker knows of the room on its broker's disk: its share of it as of the last look, less what its replicas accepted
// since (architecture D19). The zero value says that nothing is known of a bound.
//
// The reserve holds what is under way when a disk becomes full, so that what is committed then still fits: the appends without an answer
// of the groups, a trim of each, and what journal and footers need. Accepting never takes from below the middle of it (Spare); what is
// left there is for trims, votes, checkpoints and footers, which are never refused.
type Disk struct {
	Bounded bool
	Full    bool  // the broker is at its reserve; it says so to its peers
	Room    int64 // bytes above the reserve
	Spare   int64 // bytes of its upper half
}

// entryOverhead is about what an entry takes on disk beside its payload: frame header, index, its part of a footer.
const entryOverhead = 128

// fits reports whether more can be accepted. The last message before the next look may reach into the reserve, so that a broker is
// never without room and not full.
func (d *Disk) fits() bool { return !d.Bounded || !d.Full && d.Room > 0 }

// take notes that bytes were accepted; what does not fit into the room comes out of the reserve.
func (d *Disk) take(bytes int64) {
	over := max(0, bytes-max(0, d.Room))
	d.Room -= bytes - over
	d.Spare -= over
}

// noRoom is why a leader takes no batch, nil if it takes it: its own disk is at the reserve, or those of so many voters
// that what it took could not be committed. Both end by themselves when there is room again.
func (r *Replica) noRoom(env *Env) *Error {
	const fix = "reads go on; make room (broker topic trim, a lower retention, a topic deleted, a larger disk) and appends go on by themselves; see broker cluster health"
	switch {
	case !env.Disk.fits():
		return &Error{Reason: ReasonDiskFull, RetryAfterMs: 250, Message: fmt.Sprintf("the disk of node %d, which leads the partition, is at its reserve: %s", r.nodeOf(r.opts.ReplicaID), fix)}
	case r.majorityFull(env):
		return &Error{Reason: ReasonDiskFull, RetryAfterMs: 250, Message: "the disks of so many of the partition's brokers are at their reserve that no majority can take more: " + fix}
	}
	return nil
}

// majorityFull reports whether the voters that have room, as far as is known here, are no majority. A peer that was not heard of lately
// counts as one that has room: it is not its disk that holds the group up.
func (r *Replica) majorityFull(env *Env) bool {
	return r.crowded(env, r.conf.Voters) || r.crowded(env, r.conf.VotersOutgoing)
}

func (r *Replica) crowded(env *Env, voters []uint64) bool {
	full := 0
	for _, id := range voters {
		if r.nodeFull(env, id) {
			full++
		}
	}
	return full > 0 && len(voters)-full < len(voters)/2+1
}

// nodeFull reports whether the broker of a replica is at its reserve.
func (r *Replica) nodeFull(env *Env, replica uint64) bool {
	if replica == r.opts.ReplicaID {
		return env.Disk.Full
	}
	return env.Full != nil && env.Full(r.nodeOf(replica))
}

// withholds reports whether m is dropped before the core sees it, because its records would take from the reserve. Messages without
// records pass, so elections, commits and trims go on, and what is here already is answered. Where a majority is full the leader takes
// no more; what it had taken by then comes out of the reserve, so that the trim behind it can be committed.
//
// That nothing acknowledged is lost by dropping: a message that the network lost does the same, and the sender sends again.
func (r *Replica) withholds(env *Env, m *raft.Message) bool {
	d := &env.Disk
	if !d.Bounded {
		return false
	}
	bytes, records := int64(0), false
	for i := range m.Entries {
		e := &m.Entries[i]
		if term, err := r.log.Term(e.Index); err == nil && term == e.Term {
			continue
		}
		bytes += int64(len(e.Data)) + entryOverhead
		if x, ok, err := decodeEnvelope(e.Context); err == nil && ok && x.kind == segment.KindData {
			records = true
		}
	}
	if records && !d.fits() && !(d.Spare >= bytes && r.majorityFull(env)) {
		env.Stats.DiskWithheld++
		return true
	}
	d.take(bytes)
	return false
}

// makeRoom lets a fill that has no room go on: what lies before the snapshot's log start here goes now, not when the snapshot is installed.
// A leader's log starts behind what a committed trim gave up, so nobody misses it; reads of it are refused from here on, also after a
// restart, because the log's own start moves.
func (r *Replica) makeRoom(env *Env) {
	if r.opts.Machine != nil || env.Disk.fits() {
		return
	}
	if err := r.log.TruncateFront(min(r.fill.manifest.Start.Index, r.applied)); err != nil && !errors.Is(err, segment.ErrInvalid) {
		r.halt(env, fmt.Errorf("drop what the leader gave up: %w", err))
		return
	}
	r.logStart = max(r.logStart, r.log.StartOffset())
}

// watchPeersSpace lets the store know who starves behind a trim.
func (r *Replica) watchPeersSpace(env *Env) {
	s := &r.st.starving
	s.peers, s.trim = s.peers[:0], r.trim.index
	if r.role != raft.StateLeader || r.opts.Machine != nil || s.trim == 0 {
		return
	}
	for _, peers := range [...][]uint64{r.conf.Voters, r.conf.VotersOutgoing, r.conf.Learners} {
		for _, id := range peers {
			if id != r.opts.ReplicaID && r.nodeFull(env, id) {
				s.peers = append(s.peers, id)
			}
		}
	}
}

// watchSpace moves leadership of records to a voter that has room when this broker's disk is at its reserve and a majority has room.
func (r *Replica) watchSpace(env *Env) {
	if r.role != raft.StateLeader || r.opts.Machine != nil || !env.Disk.Full || r.majorityFull(env) {
		r.full = 0
		return
	}
	if r.full++; r.full%max(1, r.opts.ElectionTicks/2) != 0 {
		return
	}
	var best, match uint64
	r.node.VisitProgress(func(id uint64, pr *raft.Progress) {
		if id != r.opts.ReplicaID && !pr.IsLearner && pr.RecentActive && !r.nodeFull(env, id) && (best == 0 || pr.Match > match) {
			best, match = id, pr.Match
		}
	})
	if best != 0 {
		r.node.TransferLeader(best)
	}
}
