package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/broker/engine"
	"lograft/broker/transport"
	"lograft/segment/journal"
)

// Timing of the search for the other first members.
const (
	probeEvery = 200 * time.Millisecond
	probeSayAt = 5 * time.Second
)

// join makes sure that the journal knows the cluster: from an earlier start, by being born now with every broker of --initial-cluster, or
// by registering this directory with a cluster that was born before (architecture D11).
func (n *node) join(ctx context.Context, loaded *journal.Loaded) error {
	birth, err := FindBirth(loaded)
	id := n.data.Identity()
	switch {
	case errors.Is(err, ErrNoBirth) && id.ClusterID != [16]byte{}:
		return fmt.Errorf("data directory %s: %w %x: the journal was removed or wiped; restore it, or empty the whole directory and start again, so that this broker registers anew", n.data.Path(), errEmptyJournal, id.ClusterID[:4])
	case errors.Is(err, ErrNoBirth):
		if birth, err = n.begin(ctx, loaded); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("data directory %s: the cluster's birth: %w", n.data.Path(), err)
	}
	if err := n.learn(BirthSeats(birth), false); err != nil {
		return err
	}
	select {
	case err := <-n.failed:
		return err // it was removed before this start
	default:
	}
	n.followRoster()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loaded, n.birth = loaded, birth
	return n.data.Born(birth.ClusterID)
}

// BirthSeats are the seats of a new cluster.
func BirthSeats(b *cluster.Birth) (list []datadir.Seat) {
	for _, m := range b.Members {
		list = append(list, datadir.Seat{Node: m.NodeID, DirID: m.DirID, Replica: m.ReplicaID})
	}
	return list
}

// begin finds out which cluster this empty directory belongs to, and journals the birth of its replica of the metadata group.
func (n *node) begin(ctx context.Context, loaded *journal.Loaded) (*cluster.Birth, error) {
	birth, joined, err := n.waitBirth(ctx)
	if err != nil {
		return nil, err
	}
	if joined == nil {
		b, ok := MetaBirth(birth, n.opts.NodeID, n.data.Identity().DirID)
		if !ok {
			return nil, fmt.Errorf("node %d is not a member of the cluster that was born", n.opts.NodeID)
		}
		n.log.Info("the cluster is born", "cluster", fmt.Sprintf("%x", birth.ClusterID), "members", len(birth.Members))
		return birth, n.recordBirth(b, loaded)
	}
	// Who is in the cluster is remembered before the birth is: a broker that has its birth can always find the others.
	if err := n.learn(toSeats(joined.Seats), false); err != nil {
		return nil, err
	}
	n.log.Warn("this broker's empty data directory is registered: its replicas are filled from the others", "cluster", fmt.Sprintf("%x", birth.ClusterID))
	return birth, n.recordBirth(metaBirth(birth, joined.Replica), loaded)
}

// waitBirth asks every other broker of --initial-cluster who it is, until all have answered with an empty directory, or are of the birth
// that they and this broker's directory make; then each computes the same birth. Where some are of a cluster that was born without this
// directory, they are asked to register it.
func (n *node) waitBirth(ctx context.Context) (*cluster.Birth, *transport.Joined, error) {
	mine := n.Greet()
	said := time.Now().Add(-probeSayAt + time.Second)
	for {
		seen, missing, born := n.probeAll(ctx, mine)
		if len(missing) == 0 {
			if birth, ok := n.computeBirth(seen); ok {
				return birth, nil, nil
			}
		}
		what := "waiting for the other brokers of --initial-cluster: the cluster is born when all have answered"
		for _, m := range born {
			birth, joined, err := n.askToJoin(ctx, m, mine)
			if err == nil {
				return birth, joined, nil
			}
			missing = append(missing, fmt.Sprintf("node %d does not register this data directory: %v", m.NodeID, err))
			what = "waiting to be registered: the cluster was born without this data directory"
		}
		if time.Since(said) >= probeSayAt {
			said = time.Now()
			n.log.Warn(what, "missing", strings.Join(missing, "; "))
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(probeEvery):
		}
	}
}

// probeAll asks everyone, in every round again: a broker may have been stopped and wiped meanwhile.
func (n *node) probeAll(ctx context.Context, mine transport.Hello) (seen map[uint64]transport.Hello, missing []string, born []Member) {
	seen = map[uint64]transport.Hello{mine.NodeID: mine}
	for _, m := range n.opts.InitialCluster {
		if m.NodeID == mine.NodeID {
			continue
		}
		h, err := transport.Probe(ctx, m.PeerAddr, m.NodeID, n.access.peers, mine)
		if err == nil && h.NodeID != m.NodeID {
			err = fmt.Errorf("it says that it is node %d", h.NodeID)
		}
		if err == nil {
			err = mine.Compatible(h)
		}
		if err != nil {
			missing = append(missing, fmt.Sprintf("node %d at %s (%v)", m.NodeID, m.PeerAddr, err))
			continue
		}
		if seen[m.NodeID] = h; h.Born {
			born = append(born, m)
		}
	}
	return seen, missing, born
}

// computeBirth makes the birth of exactly these members; ok is false if one of them is of another one.
func (n *node) computeBirth(seen map[uint64]transport.Hello) (birth *cluster.Birth, ok bool) {
	members := make([]cluster.Member, 0, len(seen))
	for _, m := range n.opts.InitialCluster {
		members = append(members, cluster.Member{NodeID: m.NodeID, DirID: seen[m.NodeID].DirID})
	}
	birth = cluster.ComputeBirth(n.opts.ClusterName, members)
	for _, h := range seen {
		if h.Born && h.ClusterID != birth.ClusterID {
			return nil, false
		}
	}
	return birth, true
}

// joinHops is how often one try to register follows to another leader.
const joinHops = 3

// askToJoin asks a broker of a cluster that was born before to register this directory.
func (n *node) askToJoin(ctx context.Context, m Member, mine transport.Hello) (*cluster.Birth, *transport.Joined, error) {
	mine.Addr = n.opts.AdvertisePeer
	addr, node := m.PeerAddr, m.NodeID
	for range joinHops {
		answer, err := transport.Join(ctx, addr, node, n.access.peers, mine)
		if err != nil {
			return nil, nil, err
		}
		if answer.Leader != "" {
			addr, node = answer.Leader, 0
			continue
		}
		birth, err := cluster.DecodeBirth(answer.Birth)
		if err == nil && answer.Replica == 0 {
			err = errors.New("the answer names no replica")
		}
		return birth, &answer, err
	}
	return nil, nil, fmt.Errorf("the leader of the metadata group changes: asked %d brokers", joinHops)
}

// recordBirth puts the birth on stable storage and into loaded, as if it had been there at the start.
func (n *node) recordBirth(b engine.Birth, loaded *journal.Loaded) error {
	s := engine.NewSyncer(n.journal)
	s.Add(&engine.SyncRequest{Births: []engine.Birth{b}})
	r := s.Next()
	err := r.Do()
	s.Done(r, err)
	if err != nil {
		return fmt.Errorf("record the cluster's birth: %w", err)
	}
	loaded.Groups = append(loaded.Groups, journal.GroupState{Birth: b.Birth, HasBirth: true})
	return nil
}
