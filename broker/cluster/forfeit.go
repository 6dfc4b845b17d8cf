package cluster

import (
	"fmt"
	"slices"
)

// Forfeit gives up the data directories of nodes that never come back, although groups lose their majority with them: what JoinBroker
// refuses (ReasonMajorityLost), because an operator accepted the loss. From then on these directories are refused everywhere. The nodes keep
// their seats and may register an empty directory each; every replica of the old ones is replaced, on the same node if it registers, else
// where there is room. The groups that have no majority are brought back one by one (partition.OpRecover).
type Forfeit struct {
	RequestID ID
	Lost      []LostDirectory
}

// LostDirectory is a node and the directory that its seat had when it was decided that it never comes back.
type LostDirectory struct {
	NodeID uint64
	DirID  ID
}

// EncodeForfeit makes the command's bytes.
func EncodeForfeit(c Forfeit) []byte {
	w := newCommand(kindForfeit, c.RequestID)
	w.Count(len(c.Lost))
	for _, l := range c.Lost {
		w.U64(l.NodeID)
		w.ID(l.DirID)
	}
	return w.Data()
}

func (r *reader) forfeit() (list []LostDirectory) {
	for range r.Count(8 + 16) {
		list = append(list, LostDirectory{NodeID: r.U64(), DirID: r.ID()})
	}
	return list
}

// Retired are the replicas of a partition whose directories are not their nodes' registered ones any more: nobody listens to them again.
func (v *View) Retired(p *Partition) (list []Replica) {
	for _, r := range p.Replicas {
		if seat, ok := v.Seat(r.NodeID); !ok || seat.DirID != r.Dir {
			list = append(list, r)
		}
	}
	return list
}

func (s *State) forfeit(index uint64, lost []LostDirectory) Result {
	stay := slices.DeleteFunc(slices.Clone(s.seats), func(x Seat) bool {
		return x.DirID == (ID{}) || slices.ContainsFunc(lost, func(l LostDirectory) bool { return l.NodeID == x.NodeID })
	})
	// The lost brokers may have kept the cluster's version from being raised: those that stay must know the command.
	if _, known, _ := oldest(stay, s.brokers); s.commands < sinceOf(kindForfeit) && len(stay) > 0 && known < sinceOf(kindForfeit) {
		return malformed(kindForfeit) // what builds say that never heard of it
	}
	var seats []Seat
	for i, l := range lost {
		seat, x := s.seated(l.NodeID)
		switch {
		case x.Reason != ReasonNone:
			return x
		case slices.ContainsFunc(lost[:i], func(o LostDirectory) bool { return o.NodeID == l.NodeID }):
			return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("node %d is named twice", l.NodeID)}
		case seat.DirID != l.DirID:
			return Result{Reason: ReasonWrongDirectory, Message: fmt.Sprintf("node %d was registered with another data directory meanwhile (%x): look at broker cluster info, and ask again", l.NodeID, seat.DirID[:4])}
		case seat.DirID != ID{}:
			seats = append(seats, seat)
		}
	}
	if !slices.ContainsFunc(stay, func(x Seat) bool { return !x.Leaving }) {
		return Result{Reason: ReasonNotEnoughBrokers, Message: "no broker would be left that has a data directory and stays: cancel a decommission first (broker cluster decommission --cancel)"}
	}
	if len(seats) == 0 {
		return Result{} // done before
	}
	for _, seat := range seats {
		s.tombstones = slices.DeleteFunc(slices.Clone(s.tombstones), func(t tombstone) bool { return t.dir == seat.DirID })
		seat.DirID, seat.ReplicaID, seat.Since = ID{}, 0, index
		s.putSeat(seat)
		if at, ok := findBroker(s.brokers, seat.NodeID); ok {
			s.brokers = slices.Clone(s.brokers)
			s.brokers[at].DirID, s.brokers[at].ReplicaID = ID{}, 0
		}
		s.forgetKnown(seat.NodeID)
	}
	s.changed(index)
	s.arrangeMeta(index)
	s.misplaced = true
	s.advance(index)
	return Result{}
}
