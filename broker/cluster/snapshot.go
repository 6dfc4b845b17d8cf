package cluster

import "fmt"

const snapshotVersion = 3

// Snapshot is the whole state: equal states have equal bytes.
func (s *State) Snapshot() []byte {
	w := &writer{}
	w.u8(snapshotVersion)
	w.u64(s.version)
	w.u64(s.nextReplica)
	w.u64(uint64(s.nextProducer))
	w.count(len(s.brokers))
	for i := range s.brokers {
		b := &s.brokers[i]
		w.u64(b.NodeID)
		w.id(b.DirID)
		w.u64(b.ReplicaID)
		for _, a := range []string{b.ClientAddr, b.PeerAddr, b.HTTPAddr, b.Version} {
			w.str(a)
		}
	}
	w.count(len(s.topics))
	for _, t := range s.topics {
		w.id(t.ID)
		w.str(t.Name)
		w.id(t.RequestID)
		w.config(t.Config)
		w.u64(t.ConfigVersion)
		w.count(len(t.Partitions))
		for i := range t.Partitions {
			w.id(t.Partitions[i].Group)
			w.settings(&t.Partitions[i].Born)
			w.replicas(t.Partitions[i].Replicas)
		}
	}
	w.count(len(s.tombstones))
	for i := range s.tombstones {
		w.id(s.tombstones[i].group)
		w.count(len(s.tombstones[i].dirs))
		for _, d := range s.tombstones[i].dirs {
			w.id(d)
		}
	}
	w.count(len(s.requests))
	for _, id := range s.requests {
		w.id(id)
		w.bytes(s.results[id])
	}
	w.accessState(s.access)
	return w.b
}

// Restore replaces the state by a snapshot's. On an error the state is as before.
func (s *State) Restore(b []byte) error {
	r := &reader{b: b}
	if v := r.u8(); r.err == nil && v != snapshotVersion {
		return fmt.Errorf("metadata snapshot: version %d, this program reads %d", v, snapshotVersion)
	}
	n := NewState(s.birth)
	n.version, n.nextReplica, n.nextProducer = r.u64(), r.u64(), int64(r.u64())
	for range r.count(8 + 16 + 8 + 4*4) {
		n.brokers = append(n.brokers, Broker{NodeID: r.u64(), DirID: r.id(), ReplicaID: r.u64(), ClientAddr: r.str(), PeerAddr: r.str(), HTTPAddr: r.str(), Version: r.str()})
	}
	for range r.count(16 + 4 + 16 + 4 + 4) {
		t := r.topic()
		n.topics = append(n.topics, t)
		at, _ := findID(n.byID, t.ID)
		n.byID = insert(n.byID, at, t)
		n.partitions += len(t.Partitions)
	}
	for range r.count(16 + 4) {
		stone := tombstone{group: r.id()}
		for range r.count(16) {
			stone.dirs = append(stone.dirs, r.id())
		}
		n.tombstones = append(n.tombstones, stone)
	}
	for range r.count(16 + 4) {
		id := r.id()
		n.remember(id, append([]byte(nil), r.bytes()...))
	}
	n.access = r.accessState()
	if err := r.end(); err != nil {
		return fmt.Errorf("metadata snapshot: %w", err)
	}
	*s = *n
	return nil
}

func (r *reader) topic() *Topic {
	t := &Topic{ID: r.id(), Name: r.str(), RequestID: r.id(), Config: r.config(), ConfigVersion: r.u64()}
	t.settle()
	for i := range r.count(16 + settingsBytes + 4) {
		t.Partitions = append(t.Partitions, Partition{Number: int32(i), Group: r.id(), Born: r.settings(), Replicas: r.replicas()})
	}
	return t
}
