package partition

import (
	"slices"

	"lograft/raft"
)

// Membership is what the metadata wants of a group.
type Membership struct {
	// Version is the metadata index of the command that set it; an older one than the last is ignored. The broker may know the replicas
	// of a version before it knows who shall vote: then Voters is empty, and the same version comes again.
	Version uint64
	Peers   []Peer   // every replica of the group, now and to come
	Voters  []uint64 // wanted replica ids, the preferred leader first
	// Learners are wanted without a vote: those of the metadata group beyond its voters (architecture D21).
	Learners []uint64
	// Preferred is the replica id of who shall lead when the group is whole (Options.PreferWindows), 0: whoever does.
	Preferred uint64
}

// Settled says that a group's leader has applied the configuration that the membership of Version wants: whoever is not in it may go.
type Settled struct {
	Group   GroupID
	Version uint64
}

// Pace of a change of members. Ticks are those of the core.
const (
	// catchUpRounds is how many rounds in a row a learner must keep up for (members.lookAt).
	catchUpRounds = 2
	// transferTries is how often a leader that is not wanted any more offers leadership to a wanted voter before it makes the change
	// itself and steps down with it.
	transferTries = 3
)

// members is who is in the group as the metadata says, and how far this replica, while it leads, has brought the configuration there.
type members struct {
	peers []Peer
	want  Membership // Version 0: none was told since the start
	// confirmed: the configuration is that of the birth, or the last configuration entry applied changed nothing. Then a majority holds for
	// sure that the configuration before it is committed (see confirm).
	confirmed bool
}

func sameConf(a, b raft.ConfState) bool {
	return slices.Equal(a.Voters, b.Voters) && slices.Equal(a.Learners, b.Learners) && slices.Equal(a.VotersOutgoing, b.VotersOutgoing) && slices.Equal(a.LearnersNext, b.LearnersNext)
}

// nodeOf is the broker of a replica, 0 if it is not known.
func (r *Replica) nodeOf(replicaID uint64) uint64 {
	for _, p := range r.members.peers {
		if p.ReplicaID == replicaID {
			return p.Node
		}
	}
	return 0
}

// changing is what a leader remembers of a change of members: it is empty on followers.
type changing struct {
	pending uint64 // index of the configuration change proposed last; in flight while it is not applied
	settled uint64 // Version that was reported
	version uint64 // Version that rounds and tries are about
	rounds  []round
	tries   int // transfers that were asked for
	ticks   int // since the last of them
}

// round is one learner's race with the log's end (Raft dissertation §4.2.1).
type round struct {
	id    uint64
	end   uint64 // the log's end when the round began
	ticks int    // since then
	kept  int    // rounds in a row that took at most half an election timeout
}

// SetMembership says who the group's replicas are and who of them shall vote. It replaces Options.Peers; a leader brings the
// configuration there by itself, as long as it leads.
func (r *Replica) SetMembership(_ *Env, m Membership) {
	if r.fatal != nil || m.Version == 0 || m.Version < r.members.want.Version {
		return
	}
	r.members.want, r.members.peers = m, m.Peers
}

// memberTick brings the configuration one step closer to the wanted one. It reports whether EndStep has work. A change that the
// core refuses is proposed again at a later tick; one that is lost with its leader is the next leader's to propose.
func (r *Replica) memberTick(env *Env) (proposed bool) {
	if r.force.on {
		return r.forceTick()
	}
	c, want := &r.lead.changing, &r.members.want
	if !r.lead.ready || want.Version == 0 || len(want.Voters) == 0 {
		return false
	}
	if c.version != want.Version {
		*c = changing{pending: c.pending, settled: c.settled, version: want.Version}
	}
	if c.pending > r.applied || len(r.conf.VotersOutgoing) > 0 {
		return false // one at a time; the core leaves a joint configuration by itself
	}
	if id := r.missing(); id != 0 {
		return r.changeMembers(raft.ConfChangeSingle{Type: raft.ConfChangeAddLearnerNode, NodeID: id})
	}
	changes := r.remaining()
	switch {
	case len(changes) == 0 && !r.members.confirmed:
		return r.confirm()
	case len(changes) == 0:
		r.settle(env)
		return false
	case !r.caughtUp(), !r.majorityUp():
		return false
	case r.stepAside():
		return true
	}
	return r.changeMembers(changes...)
}

// confirm proposes a change of nothing. Whoever makes a configuration entry durable makes durable with it that the one before is
// committed, so when this one is committed, a majority of the wanted voters starts with the wanted configuration, whatever happens. Before
// that the removed replicas may still be needed: if this leader went for good, the others would count their votes.
func (r *Replica) confirm() bool { return r.changeMembers(raft.ConfChangeSingle{}) }

// settle reports that the wanted configuration is in effect for good, once. A leader that it removed leaves that to the next one.
func (r *Replica) settle(env *Env) {
	c := &r.lead.changing
	if c.settled != c.version && slices.Contains(r.members.want.Voters, r.opts.ReplicaID) {
		c.settled = c.version
		env.Settled = append(env.Settled, Settled{Group: r.opts.Group, Version: c.version})
	}
}

// missing is a wanted replica that is in no part of the configuration yet, 0 if there is none.
func (r *Replica) missing() uint64 {
	for _, ids := range [...][]uint64{r.members.want.Voters, r.members.want.Learners} {
		for _, id := range ids {
			if !slices.Contains(r.conf.Voters, id) && !slices.Contains(r.conf.Learners, id) {
				return id
			}
		}
	}
	return 0
}

// remaining are the changes from the configuration to the wanted one, once every wanted replica is in it.
func (r *Replica) remaining() (changes []raft.ConfChangeSingle) {
	want := &r.members.want
	for _, id := range want.Voters {
		if !slices.Contains(r.conf.Voters, id) {
			changes = append(changes, raft.ConfChangeSingle{Type: raft.ConfChangeAddNode, NodeID: id})
		}
	}
	for _, ids := range [...][]uint64{r.conf.Voters, r.conf.Learners} {
		for _, id := range ids {
			switch {
			case slices.Contains(want.Voters, id), slices.Contains(want.Learners, id) && slices.Contains(r.conf.Learners, id):
			case slices.Contains(want.Learners, id):
				changes = append(changes, raft.ConfChangeSingle{Type: raft.ConfChangeAddLearnerNode, NodeID: id})
			default:
				changes = append(changes, raft.ConfChangeSingle{Type: raft.ConfChangeRemoveNode, NodeID: id})
			}
		}
	}
	return changes
}

// caughtUp reports whether every learner that shall vote keeps up with the log. A round of a learner begins at the end that the log has
// then and is over when the learner holds that end; the learner keeps up after catchUpRounds rounds in a row of at most half an
// election timeout each. So what it lacks when it is promoted is at most what the leader appends in that time (Raft dissertation §4.2.1).
// A replica that is being filled fails its round; nothing else waits for it.
func (r *Replica) caughtUp() bool {
	c, last := &r.lead.changing, r.log.LastIndex()
	all := true
	for _, id := range r.members.want.Voters {
		if slices.Contains(r.conf.Voters, id) {
			continue
		}
		at := slices.IndexFunc(c.rounds, func(x round) bool { return x.id == id })
		if at < 0 {
			at = len(c.rounds)
			c.rounds = append(c.rounds, round{id: id, end: last})
		}
		x := &c.rounds[at]
		x.ticks++
		match, active := r.progressOf(id)
		switch limit := max(1, r.opts.ElectionTicks/2); {
		case !active || x.ticks > limit:
			x.kept = 0
			if match >= x.end {
				x.end, x.ticks = last, 0
			}
		case match >= x.end:
			x.kept, x.end, x.ticks = x.kept+1, last, 0
		}
		all = all && x.kept >= catchUpRounds
	}
	return all
}

// majorityUp reports whether a majority of the wanted voters was heard within the last election timeout, this replica included if it is
// one: a configuration is never entered that could not commit its own next entry.
func (r *Replica) majorityUp() bool {
	up := 0
	for _, id := range r.members.want.Voters {
		if _, active := r.progressOf(id); active || id == r.opts.ReplicaID {
			up++
		}
	}
	return up > len(r.members.want.Voters)/2
}

func (r *Replica) progressOf(replica uint64) (match uint64, active bool) {
	r.node.VisitProgress(func(id uint64, pr *raft.Progress) {
		if id == replica {
			match, active = pr.Match, pr.RecentActive
		}
	})
	return match, active
}

// stepAside lets a leader that shall not vote any more hand leadership to a wanted voter first: so the group loses no time to an
// election. It reports whether that is under way. Where no wanted replica votes yet, or none takes over, the leader makes the change
// and steps down when it is committed (raft-api.md §2 rule 8).
func (r *Replica) stepAside() bool {
	c := &r.lead.changing
	if slices.Contains(r.members.want.Voters, r.opts.ReplicaID) || c.tries > transferTries {
		return false
	}
	if c.tries > 0 && c.ticks < r.opts.ElectionTicks {
		c.ticks++
		return true
	}
	to := r.bestWanted()
	if to == 0 || c.tries == transferTries {
		c.tries = transferTries + 1
		return false
	}
	c.tries, c.ticks = c.tries+1, 0
	r.node.TransferLeader(to)
	return true
}

// bestWanted is the voter of both the configuration and the wanted one, other than this replica, that is known to hold most of the log;
// 0 if none was heard lately.
func (r *Replica) bestWanted() (best uint64) {
	var most uint64
	r.node.VisitProgress(func(id uint64, pr *raft.Progress) {
		wanted := id != r.opts.ReplicaID && slices.Contains(r.members.want.Voters, id) && slices.Contains(r.conf.Voters, id)
		if wanted && pr.RecentActive && (best == 0 || pr.Match > most) {
			best, most = id, pr.Match
		}
	})
	return best
}

// changeMembers proposes a change: several at once enter a joint configuration, which the core leaves when it is committed.
func (r *Replica) changeMembers(changes ...raft.ConfChangeSingle) bool {
	if r.growthBlocked() || r.node.ProposeConfChange(nil, raft.ConfChangeV2{Changes: changes}) != nil {
		return false
	}
	r.lead.changing.pending = r.node.BasicStatus().LastIndex
	return true
}
