package cluster

import (
	"fmt"
	"slices"
)

const (
	snapshotVersion = 6
	// snapshotUngated is the version before commands had versions: it is written until the first of them is raised, so that brokers of
	// older builds read it.
	snapshotUngated = 5
	// snapshotMoved is the version before quotas bounded connections.
	snapshotMoved = 4
	// snapshotBorn is the version before membership could change: seats and replicas are those of the births.
	snapshotBorn = 3
)

// Snapshot is the whole state: equal states have equal bytes.
func (s *State) Snapshot() []byte {
	w := &writer{}
	if s.commands == commandsFirst {
		w.U8(snapshotUngated)
	} else {
		w.U8(snapshotVersion)
		w.U32(s.commands)
	}
	w.U64(s.version)
	w.U64(s.nextReplica)
	w.U64(uint64(s.nextProducer))
	w.Count(len(s.brokers))
	for i := range s.brokers {
		b := &s.brokers[i]
		w.U64(b.NodeID)
		w.ID(b.DirID)
		w.U64(b.ReplicaID)
		for _, a := range []string{b.ClientAddr, b.PeerAddr, b.HTTPAddr, b.Version} {
			w.Str(a)
		}
		if s.commands >= FeatureRacks.Since() {
			w.Str(b.Rack)
			w.Bool(b.Away)
		}
	}
	w.Count(len(s.topics))
	for _, t := range s.topics {
		w.ID(t.ID)
		w.Str(t.Name)
		w.ID(t.RequestID)
		w.config(t.Config)
		w.U64(t.ConfigVersion)
		w.Count(len(t.Partitions))
		for i := range t.Partitions {
			w.partition(&t.Partitions[i])
		}
	}
	w.Count(len(s.tombstones))
	for i := range s.tombstones {
		w.ID(s.tombstones[i].group)
		w.U64(s.tombstones[i].replica)
		w.ID(s.tombstones[i].dir)
	}
	w.Count(len(s.requests))
	for _, id := range s.requests {
		w.ID(id)
		w.Bytes(s.results[id])
	}
	w.accessState(s.access)
	w.members(s)
	return w.Data()
}

func (w *writer) partition(p *Partition) {
	w.ID(p.Group)
	w.settings(&p.Born)
	w.replicas(p.Replicas)
	for _, ids := range [][]uint64{p.Voters, p.Learners, p.Current, p.BornVoters, p.BornLearners} {
		w.ids(ids)
	}
	w.U64(p.Version)
	w.U64(p.Settled)
}

// members is who is in the cluster, and what is under way there.
func (w *writer) members(s *State) {
	w.Count(len(s.seats))
	for _, x := range s.seats {
		w.U64(x.NodeID)
		w.ID(x.DirID)
		w.U64(x.ReplicaID)
		w.Str(x.PeerAddr)
		w.U64(x.Since)
		w.Bool(x.Leaving)
	}
	w.Count(len(s.gone))
	for _, g := range s.gone {
		w.U64(g.NodeID)
		w.U64(g.Since)
	}
	w.partition(&s.meta)
	w.Bool(s.misplaced)
	w.Bool(s.rebalancing)
}

// Restore replaces the state by a snapshot's. On an error the state is as before.
func (s *State) Restore(b []byte) error {
	r := newReader(b)
	v := r.U8()
	if v < snapshotBorn || v > snapshotVersion {
		return fmt.Errorf("metadata snapshot: version %d, this program reads %d to %d", v, snapshotBorn, snapshotVersion)
	}
	n := NewStateKnowing(s.birth, s.known)
	if v > snapshotUngated {
		n.commands = r.U32()
	}
	if err := n.Fault(); err != nil {
		return fmt.Errorf("metadata snapshot: %w", err)
	}
	n.version, n.nextReplica, n.nextProducer = r.U64(), r.U64(), int64(r.U64())
	for range r.Count(8 + 16 + 8 + 4*4) {
		b := Broker{NodeID: r.U64(), DirID: r.ID(), ReplicaID: r.U64(), ClientAddr: r.Str(), PeerAddr: r.Str(), HTTPAddr: r.Str(), Version: r.Str()}
		if n.commands >= FeatureRacks.Since() {
			b.Rack, b.Away = r.Str(), r.Bool()
		}
		n.brokers = append(n.brokers, b)
	}
	for range r.Count(16 + 4 + 16 + 4 + 4) {
		t := r.topic(v, n.version)
		n.topics = append(n.topics, t)
		at, _ := findID(n.byID, t.ID)
		n.byID = insert(n.byID, at, t)
		n.partitions += len(t.Partitions)
		for i := range t.Partitions {
			if t.Partitions[i].Moving() {
				n.moving[t.Partitions[i].Group] = movingRef{t.ID, int32(i)}
			}
		}
	}
	n.tombstones = r.tombstones(v)
	for range r.Count(16 + 4) {
		id := r.ID()
		n.remember(id, append([]byte(nil), r.Bytes()...))
	}
	n.access = r.accessState(v)
	if v > snapshotBorn {
		r.members(n)
	} else {
		for i := range n.brokers {
			if seat, ok := n.seat(n.brokers[i].NodeID); ok {
				seat.PeerAddr = n.brokers[i].PeerAddr
				n.putSeat(seat)
			}
		}
	}
	if err := r.End(); err != nil {
		return fmt.Errorf("metadata snapshot: %w", err)
	}
	*s = *n
	return nil
}

func (r *reader) tombstones(version uint8) (list []tombstone) {
	for range r.Count(16 + 4) {
		stone := tombstone{group: r.ID()}
		if version == snapshotBorn {
			for range r.Count(16) {
				stone.dir = r.ID()
				list = append(list, stone)
			}
			continue
		}
		stone.replica, stone.dir = r.U64(), r.ID()
		list = append(list, stone)
	}
	slices.SortFunc(list, compareTombstones)
	return list
}

func (r *reader) members(s *State) {
	s.seats = nil
	for range r.Count(8 + 16 + 8 + 4 + 8 + 1) {
		s.seats = append(s.seats, Seat{NodeID: r.U64(), DirID: r.ID(), ReplicaID: r.U64(), PeerAddr: r.Str(), Since: r.U64(), Leaving: r.Bool()})
	}
	for range r.Count(8 + 8) {
		s.gone = append(s.gone, Gone{NodeID: r.U64(), Since: r.U64()})
	}
	s.meta = r.partition(-1)
	s.misplaced, s.rebalancing = r.Bool(), r.Bool()
}

func (r *reader) topic(version uint8, index uint64) *Topic {
	t := &Topic{ID: r.ID(), Name: r.Str(), RequestID: r.ID(), Config: r.config(), ConfigVersion: r.U64()}
	t.settle()
	for i := range r.Count(16 + settingsBytes + 4) {
		if version > snapshotBorn {
			t.Partitions = append(t.Partitions, r.partition(int32(i)))
			continue
		}
		p := Partition{Number: int32(i), Group: r.ID(), Born: r.settings(), Replicas: r.replicas(), Version: index, Settled: index}
		for _, x := range p.Replicas {
			p.Voters = append(p.Voters, x.ID)
		}
		p.Current, p.BornVoters = p.Voters, p.Voters
		t.Partitions = append(t.Partitions, p)
	}
	return t
}

func (r *reader) partition(number int32) Partition {
	p := Partition{Number: number, Group: r.ID(), Born: r.settings(), Replicas: r.replicas()}
	for _, ids := range []*[]uint64{&p.Voters, &p.Learners, &p.Current, &p.BornVoters, &p.BornLearners} {
		*ids = r.ids()
	}
	p.Version, p.Settled = r.U64(), r.U64()
	return p
}
