package cluster

import (
	"fmt"
	"slices"
)

// Seat is a broker's place in the cluster, whether it runs or not: the members of the birth, and those that were added later.
type Seat struct {
	NodeID    uint64
	DirID     ID     // its registered data directory: no other one may speak for the node. Zero: added, and not started yet
	ReplicaID uint64 // of its replica of the metadata group; 0 while DirID is zero
	PeerAddr  string // as it was added with, or as it said itself; "" before a first member said it
	Since     uint64 // metadata index that gave the seat or registered DirID last, 0: the cluster's birth
	Leaving   bool   // decommissioned: it gets no replica, and those that it has move away
}

// Gone is a node that was removed from the cluster. It stays known, so that everybody refuses it.
type Gone struct {
	NodeID uint64
	Since  uint64 // metadata index of its removal
}

// Seats are the brokers of the cluster by node id. Not to be changed.
func (v *View) Seats() []Seat { return v.seats }

// Gone are the nodes that were removed and not added again, by node id. Not to be changed.
func (v *View) Gone() []Gone { return v.gone }

// Seat is the broker with this node id.
func (v *View) Seat(node uint64) (Seat, bool) { return findSeat(v.seats, node) }

// Local is the replica of a partition on the registered directory of a node; ok is false if it holds none.
func (v *View) Local(p *Partition, node uint64) (r Replica, ok bool) {
	seat, _ := v.Seat(node)
	for _, r := range p.Replicas {
		if r.NodeID == node && r.Dir == seat.DirID {
			return r, true
		}
	}
	return Replica{}, false
}

// Placeable is how many brokers can take new replicas once all that have a directory are up.
func (v *View) Placeable() (n int) {
	for i := range v.seats {
		if !v.seats[i].Leaving && v.seats[i].DirID != (ID{}) {
			n++
		}
	}
	return n
}

func compareSeat(s Seat, node uint64) int {
	switch {
	case s.NodeID < node:
		return -1
	case s.NodeID > node:
		return 1
	}
	return 0
}

func findSeat(list []Seat, node uint64) (Seat, bool) {
	if at, ok := slices.BinarySearchFunc(list, node, compareSeat); ok {
		return list[at], true
	}
	return Seat{}, false
}

func (s *State) seat(node uint64) (Seat, bool) { return findSeat(s.seats, node) }

// seated is seat with an answer for who names a node that is none.
func (s *State) seated(node uint64) (Seat, Result) {
	seat, ok := s.seat(node)
	if !ok {
		return seat, Result{Reason: ReasonBrokerNotFound, Message: fmt.Sprintf("node %d is not a broker of this cluster: see broker cluster info, or add it with broker cluster add %d=HOST:PORT", node, node)}
	}
	return seat, Result{}
}

// settledSeat reports whether a node may get and keep replicas.
func (s *State) settledSeat(node uint64) bool {
	seat, ok := s.seat(node)
	return ok && !seat.Leaving && seat.DirID != (ID{})
}

// placeable is how many registered brokers can take replicas.
func (s *State) placeable() (n int) {
	for i := range s.brokers {
		if s.settledSeat(s.brokers[i].NodeID) {
			n++
		}
	}
	return n
}

// putSeat replaces a seat or adds one.
func (s *State) putSeat(seat Seat) {
	at, ok := slices.BinarySearchFunc(s.seats, seat.NodeID, compareSeat)
	list := slices.Clone(s.seats)
	if ok {
		list[at] = seat
	} else {
		list = slices.Insert(list, at, seat)
	}
	s.seats = list
}

// JoinBroker registers a data directory that is new to the cluster for a node that has a seat: one that was added, or whose directory
// was lost (architecture D11). From then on the old directory is refused everywhere, and every replica that it held is replaced by one
// with a new id on the new directory. The answer's First is the id of the node's replica of the metadata group; a directory that is
// registered already gets the same one again.
type JoinBroker struct {
	RequestID ID
	NodeID    uint64
	DirID     ID
	OldDirID  ID // that the seat had when it was decided that nobody uses it any more
	PeerAddr  string
}

// EncodeJoinBroker makes the command's bytes.
func EncodeJoinBroker(c JoinBroker) []byte {
	w := newCommand(kindJoinBroker, c.RequestID)
	w.U64(c.NodeID)
	w.ID(c.DirID)
	w.ID(c.OldDirID)
	w.Str(c.PeerAddr)
	return w.Data()
}

// AddBroker gives a node a seat, so that it may join. Adding it again with the same address changes nothing.
type AddBroker struct {
	RequestID ID
	NodeID    uint64
	PeerAddr  string
}

// EncodeAddBroker makes the command's bytes.
func EncodeAddBroker(c AddBroker) []byte {
	w := newCommand(kindAddBroker, c.RequestID)
	w.U64(c.NodeID)
	w.Str(c.PeerAddr)
	return w.Data()
}

// RemoveBroker takes a node's seat. It must hold no replica of a partition any more.
type RemoveBroker struct {
	RequestID ID
	NodeID    uint64
}

// EncodeRemoveBroker makes the command's bytes.
func EncodeRemoveBroker(c RemoveBroker) []byte {
	w := newCommand(kindRemoveBroker, c.RequestID)
	w.U64(c.NodeID)
	return w.Data()
}

// Decommission moves everything away from a node, or, with Cancel, lets it take replicas again.
type Decommission struct {
	RequestID ID
	NodeID    uint64
	Cancel    bool
}

// EncodeDecommission makes the command's bytes.
func EncodeDecommission(c Decommission) []byte {
	w := newCommand(kindDecommission, c.RequestID)
	w.U64(c.NodeID)
	w.Bool(c.Cancel)
	return w.Data()
}

// applyMembers carries out a command about who is in the cluster and what is where; ok is false for what is none.
func (s *State) applyMembers(index uint64, kind uint8, r *reader) (x Result, ok bool) {
	switch kind {
	case kindJoinBroker:
		if c := (JoinBroker{NodeID: r.U64(), DirID: r.ID(), OldDirID: r.ID(), PeerAddr: r.Str()}); r.End() == nil {
			return s.joinBroker(index, c), true
		}
	case kindAddBroker:
		if c := (AddBroker{NodeID: r.U64(), PeerAddr: r.Str()}); r.End() == nil {
			return s.addBroker(index, c), true
		}
	case kindRemoveBroker:
		if node := r.U64(); r.End() == nil {
			return s.removeBroker(index, node), true
		}
	case kindDecommission:
		if c := (Decommission{NodeID: r.U64(), Cancel: r.Bool()}); r.End() == nil {
			return s.decommission(index, c), true
		}
	case kindForfeit:
		if list := r.forfeit(); r.End() == nil {
			return s.forfeit(index, list), true
		}
	case kindReassign:
		if c := r.reassign(); r.End() == nil {
			return s.reassign(index, c), true
		}
	case kindRebalance:
		if r.End() == nil {
			s.rebalancing = true
			s.changed(index)
			s.advance(index)
			return Result{First: int64(len(s.moving))}, true
		}
	case kindSettled:
		if list := r.settled(); r.End() == nil {
			return s.settle(index, list), true
		}
	}
	return Result{}, false
}

func (s *State) joinBroker(index uint64, c JoinBroker) Result {
	seat, x := s.seated(c.NodeID)
	switch {
	case x.Reason != ReasonNone:
		return x
	case c.DirID == ID{} || len(c.PeerAddr) > addrBytesMax:
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("node %d registers without a directory, or with an address of more than %d bytes", c.NodeID, addrBytesMax)}
	case seat.DirID == c.DirID:
		return Result{First: int64(seat.ReplicaID)}
	case seat.DirID != c.OldDirID:
		return Result{Reason: ReasonWrongDirectory, Message: fmt.Sprintf("node %d was registered with another data directory meanwhile (%x): stop the other broker that says it is node %d", c.NodeID, seat.DirID[:4], c.NodeID)}
	}
	if seat.DirID != (ID{}) {
		if x := s.canLose(seat.DirID); x.Reason != ReasonNone {
			return x
		}
		s.tombstones = slices.DeleteFunc(slices.Clone(s.tombstones), func(t tombstone) bool { return t.dir == seat.DirID })
	}
	r := s.newReplica(c.NodeID, c.DirID)
	seat.DirID, seat.ReplicaID, seat.PeerAddr, seat.Since = c.DirID, r.ID, c.PeerAddr, index
	s.putSeat(seat)
	if at, ok := findBroker(s.brokers, c.NodeID); ok {
		s.brokers = slices.Clone(s.brokers)
		s.brokers[at].DirID, s.brokers[at].ReplicaID, s.brokers[at].PeerAddr = c.DirID, r.ID, c.PeerAddr
	}
	s.forgetKnown(c.NodeID)
	s.meta.Replicas = append(slices.Clone(s.meta.Replicas), r)
	s.changed(index)
	s.arrangeMeta(index)
	s.misplaced = true
	s.advance(index)
	return Result{First: int64(r.ID)}
}

// canLose refuses to give up a directory where the voters that stay are no majority, of who votes now or of who shall: what such a
// group holds would be lost with it.
func (s *State) canLose(dir ID) Result {
	lost, example := 0, ""
	check := func(p *Partition, name string) {
		for _, voters := range [][]uint64{p.Current, p.Voters} {
			stay, holds := 0, false
			for _, id := range voters {
				r, _ := p.Replica(id)
				seat, ok := s.seat(r.NodeID)
				holds = holds || r.Dir == dir
				if ok && seat.DirID == r.Dir && r.Dir != dir {
					stay++
				}
			}
			if holds && 2*stay <= len(voters) {
				if lost++; lost == 1 {
					example = fmt.Sprintf("%s (%d of %d voters stay)", name, stay, len(voters))
				}
				return
			}
		}
	}
	check(&s.meta, "the metadata group")
	for _, t := range s.topics {
		for i := range t.Partitions {
			check(&t.Partitions[i], fmt.Sprintf("%s/%d", t.Name, t.Partitions[i].Number))
		}
	}
	if lost == 0 {
		return Result{}
	}
	return Result{Reason: ReasonMajorityLost, Message: fmt.Sprintf("%d partitions would have no majority without the lost data directory, like %s: start the broker with that directory, wait until other replicas that are on the move have caught up, or delete the topics that can be given up, then start it again; if too many directories are lost for good: broker cluster recover --gone", lost, example)}
}

func (s *State) addBroker(index uint64, c AddBroker) Result {
	if c.NodeID == 0 || c.PeerAddr == "" || len(c.PeerAddr) > addrBytesMax {
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("node %d at %q: want a node id >= 1 and a peer address of 1 to %d bytes", c.NodeID, c.PeerAddr, addrBytesMax)}
	}
	seat, ok := s.seat(c.NodeID)
	switch {
	case ok && seat.PeerAddr == c.PeerAddr:
		return Result{}
	case ok && seat.DirID != ID{}:
		return Result{Reason: ReasonBrokerInUse, Message: fmt.Sprintf("node %d is a broker of this cluster at %s: a broker that lost its data directory is started with an empty one, without adding it again", c.NodeID, seat.PeerAddr)}
	case !ok && len(s.seats) >= BrokersMax:
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("the cluster has %d brokers: remove one first", BrokersMax)}
	}
	s.putSeat(Seat{NodeID: c.NodeID, PeerAddr: c.PeerAddr, Since: index})
	s.gone = slices.DeleteFunc(slices.Clone(s.gone), func(g Gone) bool { return g.NodeID == c.NodeID })
	s.changed(index)
	return Result{}
}

func (s *State) removeBroker(index uint64, node uint64) Result {
	seat, x := s.seated(node)
	if x.Reason != ReasonNone {
		return x
	}
	held := 0
	for _, t := range s.topics {
		for i := range t.Partitions {
			if slices.ContainsFunc(t.Partitions[i].Replicas, func(r Replica) bool { return r.NodeID == node }) {
				held++
			}
		}
	}
	switch {
	case held > 0:
		return Result{Reason: ReasonBrokerInUse, Message: fmt.Sprintf("%d partitions have a replica on node %d: run broker cluster decommission %d -w first (whether the broker runs or not)", held, node, node)}
	case !slices.ContainsFunc(s.seats, func(x Seat) bool { return x.NodeID != node && s.settledSeat(x.NodeID) }):
		return Result{Reason: ReasonNotEnoughBrokers, Message: fmt.Sprintf("no other broker stays: start the ones that were added, or cancel a decommission, before node %d is removed", node)}
	}
	if x := s.metaCanLose(node); x.Reason != ReasonNone {
		return x
	}
	s.seats = slices.DeleteFunc(slices.Clone(s.seats), func(x Seat) bool { return x.NodeID == node })
	s.brokers = slices.DeleteFunc(slices.Clone(s.brokers), func(b Broker) bool { return b.NodeID == node })
	s.tombstones = slices.DeleteFunc(slices.Clone(s.tombstones), func(t tombstone) bool { return t.dir == seat.DirID })
	gone := append(slices.Clone(s.gone), Gone{NodeID: node, Since: index})
	slices.SortFunc(gone, func(a, b Gone) int { return compareSeat(Seat{NodeID: a.NodeID}, b.NodeID) })
	s.gone = gone[max(0, len(gone)-BrokersMax):]
	s.changed(index)
	s.arrangeMeta(index)
	return Result{}
}

// metaCanLose refuses to remove a node without which the metadata group's voters, of now or to come, are no majority: they must carry
// through that it votes no more, and from its removal on nobody listens to it.
func (s *State) metaCanLose(node uint64) Result {
	for _, voters := range [][]uint64{s.meta.Current, s.meta.Voters} {
		stay, votes := 0, false
		for _, id := range voters {
			r, _ := s.meta.Replica(id)
			seat, ok := s.seat(r.NodeID)
			votes = votes || r.NodeID == node
			if ok && seat.DirID == r.Dir && r.NodeID != node {
				stay++
			}
		}
		switch {
		case !votes || 2*stay > len(voters):
		case s.meta.Moving():
			return Result{Reason: ReasonInProgress, Message: fmt.Sprintf("who votes in the metadata group is being changed: wait until that is done (broker cluster health) before node %d is removed", node)}
		default:
			return Result{Reason: ReasonBrokerInUse, Message: fmt.Sprintf("node %d votes in the metadata group, and without it %d of its %d voters stay, which is no majority: run broker cluster decommission %d -w first", node, stay, len(voters), node)}
		}
	}
	return Result{}
}

func (s *State) decommission(index uint64, c Decommission) Result {
	seat, x := s.seated(c.NodeID)
	if x.Reason != ReasonNone {
		return x
	}
	if seat.Leaving == !c.Cancel {
		return Result{First: int64(len(s.moving))}
	}
	if !c.Cancel {
		if x := s.canSpare(c.NodeID); x.Reason != ReasonNone {
			return x
		}
	}
	seat.Leaving = !c.Cancel
	s.putSeat(seat)
	s.changed(index)
	s.arrangeMeta(index)
	s.misplaced = true
	s.advance(index)
	return Result{First: int64(len(s.moving))}
}

// canSpare refuses to empty a broker whose replicas would find no place.
func (s *State) canSpare(node uint64) Result {
	left := 0
	for i := range s.brokers {
		if n := s.brokers[i].NodeID; n != node && s.settledSeat(n) {
			left++
		}
	}
	for _, t := range s.topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if !slices.ContainsFunc(p.Replicas, func(r Replica) bool { return r.NodeID == node && p.wants(r.ID) }) {
				continue
			}
			if len(p.Voters) > left {
				return Result{Reason: ReasonNotEnoughBrokers, Message: fmt.Sprintf("%s/%d has %d replicas, and %d other brokers can take them: add a broker first, or give the partition fewer replicas with broker topic reassign", t.Name, p.Number, len(p.Voters), left)}
			}
		}
	}
	if left == 0 {
		return Result{Reason: ReasonNotEnoughBrokers, Message: fmt.Sprintf("no broker but node %d can take replicas: add one first", node)}
	}
	return Result{}
}

// arrangeMeta decides who shall be in the metadata group: whoever votes goes on voting while it stays, then the others by node id, up
// to metadataVotersMax; all others are learners (architecture D21).
func (s *State) arrangeMeta(index uint64) {
	byID := map[uint64]Seat{}
	for _, seat := range s.seats {
		if seat.ReplicaID != 0 {
			byID[seat.ReplicaID] = seat
		}
	}
	var voters, learners []uint64
	for _, id := range s.meta.Voters {
		if seat, ok := byID[id]; ok && !seat.Leaving {
			voters = append(voters, id)
		}
	}
	for _, seat := range s.seats {
		switch id := seat.ReplicaID; {
		case id == 0 || slices.Contains(voters, id):
		case !seat.Leaving && len(voters) < metadataVotersMax:
			voters = append(voters, id)
		default:
			learners = append(learners, id)
		}
	}
	if slices.Equal(voters, s.meta.Voters) && slices.Equal(learners, s.meta.Learners) {
		return
	}
	s.meta.Voters, s.meta.Learners, s.meta.Version = voters, learners, index
	s.changed(index)
}
