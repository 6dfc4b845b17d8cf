package cluster

import "fmt"

const snapshotVersion = 3

// Snapshot is the whole state: equal states have equal bytes.
func (s *State) Snapshot() []byte {
	w := &writer{}
	w.U8(snapshotVersion)
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
			w.ID(t.Partitions[i].Group)
			w.settings(&t.Partitions[i].Born)
			w.replicas(t.Partitions[i].Replicas)
		}
	}
	w.Count(len(s.tombstones))
	for i := range s.tombstones {
		w.ID(s.tombstones[i].group)
		w.Count(len(s.tombstones[i].dirs))
		for _, d := range s.tombstones[i].dirs {
			w.ID(d)
		}
	}
	w.Count(len(s.requests))
	for _, id := range s.requests {
		w.ID(id)
		w.Bytes(s.results[id])
	}
	w.accessState(s.access)
	return w.Data()
}

// Restore replaces the state by a snapshot's. On an error the state is as before.
func (s *State) Restore(b []byte) error {
	r := newReader(b)
	if v := r.U8(); r.Err() == nil && v != snapshotVersion {
		return fmt.Errorf("metadata snapshot: version %d, this program reads %d", v, snapshotVersion)
	}
	n := NewState(s.birth)
	n.version, n.nextReplica, n.nextProducer = r.U64(), r.U64(), int64(r.U64())
	for range r.Count(8 + 16 + 8 + 4*4) {
		n.brokers = append(n.brokers, Broker{NodeID: r.U64(), DirID: r.ID(), ReplicaID: r.U64(), ClientAddr: r.Str(), PeerAddr: r.Str(), HTTPAddr: r.Str(), Version: r.Str()})
	}
	for range r.Count(16 + 4 + 16 + 4 + 4) {
		t := r.topic()
		n.topics = append(n.topics, t)
		at, _ := findID(n.byID, t.ID)
		n.byID = insert(n.byID, at, t)
		n.partitions += len(t.Partitions)
	}
	for range r.Count(16 + 4) {
		stone := tombstone{group: r.ID()}
		for range r.Count(16) {
			stone.dirs = append(stone.dirs, r.ID())
		}
		n.tombstones = append(n.tombstones, stone)
	}
	for range r.Count(16 + 4) {
		id := r.ID()
		n.remember(id, append([]byte(nil), r.Bytes()...))
	}
	n.access = r.accessState()
	if err := r.End(); err != nil {
		return fmt.Errorf("metadata snapshot: %w", err)
	}
	*s = *n
	return nil
}

func (r *reader) topic() *Topic {
	t := &Topic{ID: r.ID(), Name: r.Str(), RequestID: r.ID(), Config: r.config(), ConfigVersion: r.U64()}
	t.settle()
	for i := range r.Count(16 + settingsBytes + 4) {
		t.Partitions = append(t.Partitions, Partition{Number: int32(i), Group: r.ID(), Born: r.settings(), Replicas: r.replicas()})
	}
	return t
}
