package broker

import (
	"context"
	"errors"
	"fmt"

	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/broker/partition"
	"lograft/broker/transport"
)

// The roster is what this broker knows of who is in the cluster: the seats of its own metadata, and those of greetings of brokers that it
// listens to. The metadata here may be behind; then the roster is what lets it hear of the brokers that came meanwhile, from one that it
// knew before. It is kept in the data directory.

// SeatsOf are the seats that metadata names, those of removed nodes too.
func SeatsOf(v *cluster.View) (list []datadir.Seat) {
	for _, s := range v.Seats() {
		list = append(list, datadir.Seat{Node: s.NodeID, DirID: s.DirID, Since: s.Since, Replica: s.ReplicaID, Addr: s.PeerAddr})
	}
	for _, g := range v.Gone() {
		list = append(list, datadir.Seat{Node: g.NodeID, Since: g.Since, Gone: true})
	}
	return list
}

func toSeats(list []transport.Seat) (out []datadir.Seat) {
	for _, s := range list {
		out = append(out, datadir.Seat{Node: s.Node, DirID: s.DirID, Since: s.Since, Replica: s.Replica, Addr: s.Addr, Gone: s.Gone})
	}
	return out
}

func fromSeats(list []datadir.Seat) (out []transport.Seat) {
	for _, s := range list {
		out = append(out, transport.Seat{Node: s.Node, DirID: s.DirID, Since: s.Since, Replica: s.Replica, Addr: s.Addr, Gone: s.Gone})
	}
	return out
}

// learn takes seats into the roster and lets everything follow it that depends on it.
func (n *node) learn(seats []datadir.Seat, own bool) error {
	n.mu.Lock()
	news, err := n.data.Learn(seats, own)
	removed := n.data.Removed(n.opts.NodeID)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if removed {
		n.fail(fmt.Errorf("node %d %w: it stops and can't be started on this data directory again; to bring the node back: broker cluster add %d=HOST:PORT, then start it with an empty data directory", n.opts.NodeID, ErrRemoved, n.opts.NodeID))
	}
	if news {
		n.followRoster()
	}
	return nil
}

// ErrRemoved ends Run of a broker that was removed from its cluster: it learned so from its own metadata, from a broker that refused it,
// or in an earlier start.
var ErrRemoved = errors.New("was removed from the cluster (broker cluster remove)")

// followRoster tells the mesh whom to talk to, and the controller which replicas of the metadata group there are.
func (n *node) followRoster() {
	n.mu.Lock()
	seats := n.data.Seats()
	n.mu.Unlock()
	n.mesh.SetPeers(n.peersOf(seats))
	n.mesh.Recheck()
	n.controls.Put(controlEvent{roster: seats})
}

// peersOf is where every other broker is: a first member where --initial-cluster says, until it registers anew; every other one where it
// said itself.
func (n *node) peersOf(seats []datadir.Seat) map[uint64]string {
	initial := map[uint64]string{}
	for _, m := range n.opts.InitialCluster {
		initial[m.NodeID] = m.PeerAddr
	}
	peers := map[uint64]string{}
	for _, s := range seats {
		addr := s.Addr
		if given := initial[s.Node]; given != "" && (s.Since == 0 || addr == "") {
			addr = given
		}
		if s.Node != n.opts.NodeID && !s.Gone && addr != "" {
			peers[s.Node] = addr
		}
	}
	return peers
}

// metaPeers are the replicas of the metadata group in a roster, and the newest metadata index at which one of them came.
func metaPeers(seats []datadir.Seat) (index uint64, peers []partition.Peer) {
	for _, s := range seats {
		if s.Replica != 0 && !s.Gone {
			index = max(index, s.Since)
			peers = append(peers, partition.Peer{ReplicaID: s.Replica, Node: s.Node})
		}
	}
	return index, peers
}

// Seated implements transport.Handler.
func (n *node) Seated(peer transport.Hello) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.data.Seated(peer.NodeID, peer.DirID)
}

// Join implements transport.Handler: the metadata group's leader registers a new directory of a node whose registered one is not
// connected (architecture D11). Others say who leads.
func (n *node) Join(ctx context.Context, peer transport.Hello) (transport.Joined, error) {
	mine := n.Greet()
	switch {
	case !n.ready.Load():
		return transport.Joined{}, fmt.Errorf("node %d is not up yet", mine.NodeID)
	case peer.Born:
		return transport.Joined{}, fmt.Errorf("node %d comes with a data directory of cluster %x: only an empty one can be registered", peer.NodeID, peer.ClusterID[:4])
	}
	if err := n.checkCommands(peer); err != nil {
		return transport.Joined{}, err
	}
	v := n.parts.View()
	leader, _, _ := n.dir.Leader(n.parts.MetaGroup)
	if leader != mine.NodeID {
		n.mu.Lock()
		addr := n.peersOf(n.data.Seats())[leader]
		n.mu.Unlock()
		if addr == "" {
			return transport.Joined{}, fmt.Errorf("node %d knows no leader of the metadata group: a majority of the brokers must be up", mine.NodeID)
		}
		return transport.Joined{Leader: addr}, nil
	}
	seat, ok := v.Seat(peer.NodeID)
	switch {
	case !ok:
		return transport.Joined{}, fmt.Errorf("node %d is no broker of this cluster: add it first, with broker cluster add %d=%s", peer.NodeID, peer.NodeID, peer.Addr)
	case seat.DirID != peer.DirID && n.mesh.Up(peer.NodeID):
		return transport.Joined{}, fmt.Errorf("node %d is connected with data directory %x: stop that broker first, or give this one its own --node-id", peer.NodeID, seat.DirID[:4])
	}
	x, err := n.host.command(ctx, n.parts.MetaGroup, cluster.EncodeJoinBroker(cluster.JoinBroker{RequestID: randomID(), NodeID: peer.NodeID, DirID: peer.DirID, OldDirID: seat.DirID, PeerAddr: peer.Addr}))
	if err != nil {
		return transport.Joined{}, err
	}
	n.log.Warn("a new data directory is registered: every replica of the old one is replaced", "of", peer.NodeID, "directory", fmt.Sprintf("%x", peer.DirID[:4]), "old", fmt.Sprintf("%x", seat.DirID[:4]))
	return transport.Joined{Birth: n.birth.Encode(), Replica: uint64(x.First), Seats: fromSeats(SeatsOf(n.parts.View()))}, nil
}
