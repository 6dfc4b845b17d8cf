package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/transport"
	"lograft/segment/journal"
)

// Timing of the search for the other first members.
const (
	probeEvery = 200 * time.Millisecond
	probeSayAt = 5 * time.Second
)

// join makes sure that the journal knows the cluster: from an earlier start, or by being born now with every broker of
// --initial-cluster (architecture D11).
func (n *node) join(ctx context.Context, loaded *journal.Loaded) error {
	birth, err := FindBirth(loaded)
	id := n.data.Identity()
	switch {
	case errors.Is(err, ErrNoBirth) && id.ClusterID != [16]byte{}:
		return fmt.Errorf("data directory %s: %w %x: the journal was removed or wiped; restore it, or replace this broker with an empty directory under a new node id", n.data.Path(), errEmptyJournal, id.ClusterID[:4])
	case errors.Is(err, ErrNoBirth):
		if birth, err = n.waitBirth(ctx); err != nil {
			return err
		}
		if err = n.recordBirth(birth, loaded); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("data directory %s: the cluster's birth: %w", n.data.Path(), err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loaded = loaded
	return n.data.Born(birth.ClusterID)
}

// waitBirth asks every other first member who it is until all have answered; then each computes the same birth.
func (n *node) waitBirth(ctx context.Context) (*cluster.Birth, error) {
	mine := n.Greet()
	seen := map[uint64]transport.Hello{mine.NodeID: mine}
	said := time.Now().Add(-probeSayAt + time.Second)
	for {
		var missing []string
		for _, m := range n.opts.InitialCluster {
			if m.NodeID == mine.NodeID {
				continue
			}
			// Everyone is asked again in every round: a broker may have been stopped and wiped meanwhile.
			h, err := transport.Probe(ctx, m.PeerAddr, m.NodeID, n.access.peers, mine)
			if err == nil && h.NodeID != m.NodeID {
				err = fmt.Errorf("it says that it is node %d", h.NodeID)
			}
			if err == nil {
				err = mine.Compatible(h)
			}
			if err != nil {
				delete(seen, m.NodeID)
				missing = append(missing, fmt.Sprintf("node %d at %s (%v)", m.NodeID, m.PeerAddr, err))
				continue
			}
			seen[m.NodeID] = h
		}
		if len(missing) == 0 {
			return n.computeBirth(seen)
		}
		if time.Since(said) >= probeSayAt {
			said = time.Now()
			n.log.Info("waiting for the other brokers of --initial-cluster: the cluster is born when all have answered", "missing", strings.Join(missing, "; "))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(probeEvery):
		}
	}
}

// computeBirth makes the birth of exactly these members. A member that has been born already must be of the same birth: else this
// directory is not the one that took part in it.
func (n *node) computeBirth(seen map[uint64]transport.Hello) (*cluster.Birth, error) {
	members := make([]cluster.Member, 0, len(seen))
	for _, m := range n.opts.InitialCluster {
		members = append(members, cluster.Member{NodeID: m.NodeID, DirID: seen[m.NodeID].DirID})
	}
	birth := cluster.ComputeBirth(n.opts.ClusterName, members)
	for _, m := range n.opts.InitialCluster {
		if h := seen[m.NodeID]; h.Born && h.ClusterID != birth.ClusterID {
			return nil, fmt.Errorf("node %d belongs to cluster %x, which was born without data directory %s: start this broker with the directory it had then (a wiped one can't take its place), or use another --cluster-id",
				m.NodeID, h.ClusterID[:4], n.data.Path())
		}
	}
	return birth, nil
}

// recordBirth puts the birth on stable storage and into loaded, as if it had been there at the start.
func (n *node) recordBirth(birth *cluster.Birth, loaded *journal.Loaded) error {
	b, ok := MetaBirth(birth, n.opts.NodeID, n.data.Identity().DirID)
	if !ok {
		return fmt.Errorf("node %d is not a member of the cluster that was born", n.opts.NodeID)
	}
	s := engine.NewSyncer(n.journal)
	s.Add(&engine.SyncRequest{Births: []engine.Birth{b}})
	r := s.Next()
	err := r.Do()
	s.Done(r, err)
	if err != nil {
		return fmt.Errorf("record the cluster's birth: %w", err)
	}
	loaded.Groups = append(loaded.Groups, journal.GroupState{Birth: b.Birth, HasBirth: true})
	n.log.Info("the cluster is born", "cluster", fmt.Sprintf("%x", birth.ClusterID), "members", len(birth.Members))
	return nil
}
