package cluster

import (
	"fmt"
	"slices"
)

// MovesMax is how many partitions are on the move at once: what more there is to move waits for one of them. Each copies the whole log
// of its partition to its new replicas; how many of these copies a broker takes at once is bounded by itself.
const MovesMax = 32

// BrokersMax bounds the brokers of a cluster, and how many removed nodes are remembered.
const BrokersMax = 256

// movingRef says where a partition on the move is found.
type movingRef struct {
	topic  ID
	number int32
}

// Moving is a group whose wanted configuration is not known to be in effect.
type Moving struct {
	Group   ID
	Version uint64 // that its leader shall report
}

// Moving are the groups on the move, the metadata group among them, by group id. Not to be changed.
func (v *View) Moving() []Moving { return v.moving }

func (s *State) movingList() (list []Moving) {
	for g, ref := range s.moving {
		if p := s.partition(ref); p != nil {
			list = append(list, Moving{Group: g, Version: p.Version})
		}
	}
	if s.meta.Moving() {
		list = append(list, Moving{Group: s.meta.Group, Version: s.meta.Version})
	}
	slices.SortFunc(list, func(a, b Moving) int { return slices.Compare(a.Group[:], b.Group[:]) })
	return list
}

func (s *State) partition(ref movingRef) *Partition {
	at, ok := findID(s.byID, ref.topic)
	if !ok || int(ref.number) >= len(s.byID[at].Partitions) {
		return nil
	}
	return &s.byID[at].Partitions[ref.number]
}

// Reassign says where the replicas of a partition shall be; the first node is the preferred leader's. A partition that is on the move
// can only be sent back to where it votes now.
type Reassign struct {
	RequestID ID
	Name      string
	Topic     ID // zero, or the topic's id
	Partition int32
	Nodes     []uint64
}

// EncodeReassign makes the command's bytes.
func EncodeReassign(c Reassign) []byte {
	w := newCommand(kindReassign, c.RequestID)
	w.Str(c.Name)
	w.ID(c.Topic)
	w.U32(uint32(c.Partition))
	w.ids(c.Nodes)
	return w.Data()
}

func (r *reader) reassign() Reassign {
	return Reassign{Name: r.Str(), Topic: r.ID(), Partition: int32(r.U32()), Nodes: r.ids()}
}

// EncodeRebalance makes the bytes of the command that evens out replicas, then preferred leaders, over the brokers. The answer's First
// is how many partitions are on the move.
func EncodeRebalance(request ID) []byte { return newCommand(kindRebalance, request).Data() }

// SettledGroups says that the leaders of these groups have brought their configurations to what these versions want.
type SettledGroups struct {
	RequestID ID
	Groups    []Moving
}

// EncodeSettled makes the command's bytes.
func EncodeSettled(c SettledGroups) []byte {
	w := newCommand(kindSettled, c.RequestID)
	w.Count(len(c.Groups))
	for _, g := range c.Groups {
		w.ID(g.Group)
		w.U64(g.Version)
	}
	return w.Data()
}

func (r *reader) settled() (list []Moving) {
	for range r.Count(16 + 8) {
		list = append(list, Moving{Group: r.ID(), Version: r.U64()})
	}
	return list
}

// settle drops the replicas that are not wanted any more: a leader has applied a configuration without them.
func (s *State) settle(index uint64, list []Moving) Result {
	for _, g := range list {
		if g.Group == s.meta.Group && g.Version == s.meta.Version && s.meta.Moving() {
			s.settled(&s.meta)
			s.changed(index)
			continue
		}
		ref, ok := s.moving[g.Group]
		if !ok {
			continue
		}
		if p := s.partition(ref); p.Version == g.Version {
			s.alter(index, ref, func(p *Partition) { s.settled(p) })
			delete(s.moving, g.Group)
		}
	}
	s.advance(index)
	return Result{}
}

func (s *State) settled(p *Partition) {
	var stay, leave []Replica
	for _, ids := range [][]uint64{p.Voters, p.Learners} {
		for _, id := range ids {
			r, _ := p.Replica(id)
			stay = append(stay, r)
		}
	}
	for _, r := range p.Replicas {
		if !p.wants(r.ID) {
			leave = append(leave, r)
		}
	}
	p.Replicas, p.Current, p.Settled = stay, p.Voters, p.Version
	if len(leave) > 0 {
		s.bury(p.Group, leave)
	}
}

// alter changes a copy of a partition and puts it into a copy of its topic: the old ones belong to views.
func (s *State) alter(index uint64, ref movingRef, change func(*Partition)) {
	idAt, _ := findID(s.byID, ref.topic)
	t := *s.byID[idAt]
	at, _ := findName(s.topics, t.Name)
	t.Partitions = slices.Clone(t.Partitions)
	change(&t.Partitions[ref.number])
	s.replaceTopic(index, at, &t)
}

// want sets the voters of a partition. If only their order changes, nothing has to move.
func (s *State) want(index uint64, ref movingRef, voters []uint64, added ...Replica) {
	s.alter(index, ref, func(p *Partition) {
		same := !p.Moving() && len(added) == 0 && len(voters) == len(p.Voters)
		p.Replicas = append(slices.Clone(p.Replicas), added...)
		p.Voters, p.Version = voters, index
		if same {
			s.settled(p)
			return
		}
		s.moving[p.Group] = ref
	})
}

// spot is the replica that a partition has, or would get, on a node's directory. ok is false while an old one is not gone from there.
func (s *State) spot(p *Partition, node uint64, dir ID) (r Replica, isNew, ok bool) {
	for _, r := range p.Replicas {
		if r.Dir == dir {
			return r, false, true
		}
	}
	if _, buried := findTombstone(s.tombstones, p.Group, dir); buried {
		return Replica{}, false, false
	}
	return s.newReplica(node, dir), true, true
}

func (s *State) reassign(index uint64, c Reassign) Result {
	at, x := s.named(c.Name, c.Topic)
	if x.Reason != ReasonNone {
		return x
	}
	t := s.topics[at]
	if c.Partition < 0 || int(c.Partition) >= len(t.Partitions) {
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("topic %q has partitions 0 to %d: there is no partition %d", c.Name, len(t.Partitions)-1, c.Partition)}
	}
	p := &t.Partitions[c.Partition]
	if x := s.checkNodes(p, c.Nodes); x.Reason != ReasonNone {
		return x
	}
	var voters []uint64
	var added []Replica
	next := s.nextReplica
	for _, node := range c.Nodes {
		seat, _ := s.seat(node)
		r, isNew, _ := s.spot(p, node, seat.DirID)
		voters = append(voters, r.ID)
		if isNew {
			added = append(added, r)
		}
	}
	if slices.Equal(voters, p.Voters) {
		return Result{Topic: t.ID}
	}
	back := sameSet(voters, p.Current)
	switch {
	case p.Moving() && !back:
		s.nextReplica = next
		return Result{Reason: ReasonInProgress, Message: fmt.Sprintf("%s/%d is on the move already: wait (broker topic describe %s), or send it back to the brokers that vote now", c.Name, c.Partition, c.Name)}
	case !p.Moving() && !back && len(s.moving) >= MovesMax:
		s.nextReplica = next
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("%d partitions are on the move, which is the most at once: wait until some have arrived (broker cluster health)", len(s.moving))}
	}
	s.want(index, movingRef{t.ID, c.Partition}, voters, added...)
	return Result{Topic: t.ID}
}

// checkNodes refuses a set of nodes on which a partition can't be.
func (s *State) checkNodes(p *Partition, nodes []uint64) Result {
	if len(nodes) < 1 || len(nodes) > ReplicationMax {
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("%d replicas: 1 to %d are possible", len(nodes), ReplicationMax)}
	}
	for i, node := range nodes {
		seat, x := s.seated(node)
		if x.Reason != ReasonNone {
			return x
		}
		_, buried := findTombstone(s.tombstones, p.Group, seat.DirID)
		switch {
		case slices.Contains(nodes[:i], node):
			return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("node %d is named twice: replicas of a partition never share a broker", node)}
		case !s.settledSeat(node):
			return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("node %d takes no replicas: it is being decommissioned, or was not started yet", node)}
		case buried:
			return Result{Reason: ReasonInProgress, Message: fmt.Sprintf("node %d has not removed the replica yet that it had of this partition: start it if it is down, and try again", node)}
		}
	}
	return Result{}
}

func sameSet(a, b []uint64) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// stays reports whether a replica may stay where it is.
func (s *State) stays(r Replica) bool {
	seat, ok := s.seat(r.NodeID)
	return ok && !seat.Leaving && seat.DirID == r.Dir
}

// advance starts the moves that have to be and fit in: first away from lost directories and leaving brokers, then to even out. It is
// what makes a decommission or a rebalance go on, whoever asked for it.
func (s *State) advance(index uint64) {
	if s.misplaced {
		s.rehome(index)
	}
	if s.rebalancing && !s.misplaced {
		s.evenOut(index)
	}
}

// rehome gives every wanted replica that can't stay a successor: on the same node, if only its directory was lost, else on the broker
// that holds least and is here, in a rack of its own if there is one.
func (s *State) rehome(index uint64) {
	loads := s.loads()
	racksOf(loads)
	misplaced := false
	for _, t := range slices.Clone(s.topics) {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if !slices.ContainsFunc(p.Voters, func(id uint64) bool { r, _ := p.Replica(id); return !s.stays(r) }) {
				continue
			}
			if !p.Moving() && len(s.moving) >= MovesMax || !s.rehomeOne(index, movingRef{t.ID, p.Number}, p, loads) {
				misplaced = true
			}
		}
	}
	s.misplaced = misplaced
}

// rehomeOne reports whether all replicas of a partition have a place now.
func (s *State) rehomeOne(index uint64, ref movingRef, p *Partition, loads []*load) bool {
	voters := slices.Clone(p.Voters)
	var added []Replica
	changed, all := false, true
	for i, id := range voters {
		r, _ := p.Replica(id)
		if s.stays(r) {
			continue
		}
		next, isNew, ok := s.successor(p, r, voters, added, loads)
		if !ok {
			all = false
			continue
		}
		voters[i], changed = next.ID, true
		if isNew {
			added = append(added, next)
		}
	}
	if changed {
		s.want(index, ref, voters, added...)
	}
	return all
}

// votes reports whether one of the voters, those that are added counted, is on a node.
func (s *State) votes(p *Partition, voters []uint64, added []Replica, node uint64) bool {
	if slices.ContainsFunc(added, func(a Replica) bool { return a.NodeID == node }) {
		return true
	}
	return slices.ContainsFunc(voters, func(id uint64) bool { x, _ := p.Replica(id); return x.NodeID == node })
}

// successor finds the place of the replica that comes for r.
func (s *State) successor(p *Partition, r Replica, voters []uint64, added []Replica, loads []*load) (next Replica, isNew, ok bool) {
	if seat, _ := s.seat(r.NodeID); s.settledSeat(r.NodeID) {
		return s.spot(p, r.NodeID, seat.DirID)
	}
	if s.commands >= FeatureRacks.Since() {
		sharing := s.sharing(p, voters, added, slices.Index(voters, r.ID))
		l := best(loads, sharing, func(l *load) bool {
			_, buried := findTombstone(s.tombstones, p.Group, l.broker.DirID)
			return !l.broker.Away && !buried && !s.votes(p, voters, added, l.broker.NodeID)
		})
		if l == nil {
			return Replica{}, false, false
		}
		l.take()
		return s.spot(p, l.broker.NodeID, l.broker.DirID)
	}
	order := slices.Clone(loads)
	slices.SortFunc(order, func(a, b *load) int {
		return compare(a.replicas, b.replicas, a.leaders, b.leaders, int(a.broker.NodeID), int(b.broker.NodeID))
	})
	for _, l := range order {
		node := l.broker.NodeID
		if s.votes(p, voters, added, node) {
			continue
		}
		if next, isNew, ok = s.spot(p, node, l.broker.DirID); ok {
			l.replicas++
			return next, isNew, true
		}
	}
	return Replica{}, false, false
}
