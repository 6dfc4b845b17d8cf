package broker

import (
	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
)

// membership is what the metadata wants of a group.
func membership(p *cluster.Partition, preferred uint64) engine.GroupMembers {
	return engine.GroupMembers{Group: p.Group, Members: partition.Membership{Version: p.Version, Peers: peersOf(p.Replicas), Voters: p.Voters, Learners: p.Learners, Preferred: preferred}}
}

// preferred is the replica that shall lead a partition, 0 if it is all the same: nobody hands over to a broker that is being emptied.
func preferred(v *cluster.View, p *cluster.Partition) uint64 {
	if p.Number < 0 || len(p.Voters) == 0 {
		return 0
	}
	r, _ := p.Replica(p.Voters[0])
	if seat, ok := v.Seat(r.NodeID); !ok || seat.Leaving {
		return 0
	}
	return r.ID
}

func peersOf(replicas []cluster.Replica) []partition.Peer {
	peers := make([]partition.Peer, len(replicas))
	for i, r := range replicas {
		peers[i] = partition.Peer{ReplicaID: r.ID, Node: r.NodeID}
	}
	return peers
}

// tellMembers tells every open replica who shall be in its group, once for each version.
func (c *Controller) tellMembers(eff *ControlEffects) {
	tell := func(p *cluster.Partition) {
		h, first := c.have[p.Group], preferred(c.view, p)
		if h != nil && h.open && (h.members < p.Version || h.members == p.Version && h.preferred != first) {
			h.members, h.preferred = p.Version, first
			eff.Members = append(eff.Members, membership(p, first))
		}
	}
	meta := c.view.Metadata
	tell(&meta)
	if c.rosterIndex > max(c.view.Version, c.rosterTold) {
		c.rosterTold = c.rosterIndex
		eff.Members = append(eff.Members, engine.GroupMembers{Group: c.metaID, Members: partition.Membership{Version: c.rosterIndex,
			Peers: append(peersOf(meta.Replicas), c.roster...)}})
	}
	for _, t := range c.view.Topics() {
		for i := range t.Partitions {
			tell(&t.Partitions[i])
		}
	}
}

// RosterChanged says which replicas of the metadata group other brokers told of, as of a metadata index that the view here may not have
// reached: without them this broker could not listen to a leader that it has not heard of, and would never reach it.
func (c *Controller) RosterChanged(index uint64, peers []partition.Peer) (eff ControlEffects) {
	c.roster, c.rosterIndex = peers, index
	if c.view != nil {
		c.tellMembers(&eff)
	}
	return eff
}
