package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// Member is a broker that was there when the cluster was born.
type Member struct {
	NodeID    uint64
	DirID     ID
	ReplicaID uint64 // of the metadata group; set by ComputeBirth
	Voter     bool   // set by ComputeBirth
}

// Birth is how a cluster began: every first member computes the same from the same set, so none decides for the others
// (architecture D11).
type Birth struct {
	ClusterID     ID
	ClusterName   string
	MetadataGroup ID
	Members       []Member // by node id
}

// metadataVotersMax is how many brokers vote in the metadata group; the others are learners (architecture D21).
const metadataVotersMax = 5

// ComputeBirth makes the birth of a cluster of these members. Only NodeID and DirID of them are read.
func ComputeBirth(name string, members []Member) *Birth {
	ms := slices.Clone(members)
	slices.SortFunc(ms, func(a, b Member) int {
		switch {
		case a.NodeID < b.NodeID:
			return -1
		case a.NodeID > b.NodeID:
			return 1
		}
		return 0
	})
	h := sha256.New()
	fmt.Fprintf(h, "lograft cluster %d:%s", len(name), name)
	for i := range ms {
		ms[i].ReplicaID, ms[i].Voter = uint64(i+1), i < metadataVotersMax
		h.Write(binary.LittleEndian.AppendUint64(nil, ms[i].NodeID))
		h.Write(ms[i].DirID[:])
	}
	b := &Birth{ClusterName: name, Members: ms}
	copy(b.ClusterID[:], h.Sum(nil))
	b.MetadataGroup = derive(b.ClusterID, "metadata", 0)
	return b
}

// derive makes an id that everyone with the same seed makes.
func derive(seed ID, what string, n int32) (id ID) {
	h := sha256.New()
	h.Write(seed[:])
	h.Write(binary.LittleEndian.AppendUint32([]byte(what), uint32(n)))
	copy(id[:], h.Sum(nil))
	return id
}

// Partition is the birth of the metadata group as a group.
func (b *Birth) Partition() *PartitionBirth {
	p := &PartitionBirth{}
	for _, m := range b.Members {
		p.Replicas = append(p.Replicas, Replica{ID: m.ReplicaID, NodeID: m.NodeID, Dir: m.DirID})
		if m.Voter {
			p.Voters = append(p.Voters, m.ReplicaID)
		} else {
			p.Learners = append(p.Learners, m.ReplicaID)
		}
	}
	return p
}

const birthVersion = 1

// Encode is the birth's bytes.
func (b *Birth) Encode() []byte {
	w := &writer{}
	w.U8(birthVersion)
	w.ID(b.ClusterID)
	w.Str(b.ClusterName)
	w.ID(b.MetadataGroup)
	w.Count(len(b.Members))
	for _, m := range b.Members {
		w.U64(m.NodeID)
		w.ID(m.DirID)
		w.U64(m.ReplicaID)
		w.U8(flag(m.Voter))
	}
	return w.Data()
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// DecodeBirth reads what Encode wrote.
func DecodeBirth(b []byte) (*Birth, error) {
	r := newReader(b)
	if v := r.U8(); r.Err() == nil && v != birthVersion {
		return nil, fmt.Errorf("cluster birth: version %d, this program reads %d", v, birthVersion)
	}
	birth := &Birth{ClusterID: r.ID(), ClusterName: r.Str(), MetadataGroup: r.ID()}
	for range r.Count(8 + 16 + 8 + 1) {
		birth.Members = append(birth.Members, Member{NodeID: r.U64(), DirID: r.ID(), ReplicaID: r.U64(), Voter: r.Bool()})
	}
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("cluster birth: %w", err)
	}
	return birth, nil
}

const partitionBirthVersion = 2

// PartitionBirth is how a group began: what its birth snapshot carries (architecture D12).
type PartitionBirth struct {
	Groups           bool // it keeps consumer groups; its settings say so by their kind, not in Encode
	Topic            ID   // zero for the metadata group
	Number           int32
	Settings         Settings // of the topic; zero for a group without one
	Voters, Learners []uint64
	Replicas         []Replica
}

// Encode is the birth's bytes.
func (p *PartitionBirth) Encode() []byte {
	w := &writer{}
	w.U8(partitionBirthVersion)
	w.ID(p.Topic)
	w.U32(uint32(p.Number))
	w.settings(&p.Settings)
	for _, ids := range [][]uint64{p.Voters, p.Learners} {
		w.Count(len(ids))
		for _, id := range ids {
			w.U64(id)
		}
	}
	w.replicas(p.Replicas)
	return w.Data()
}

// DecodePartitionBirth reads what Encode wrote.
func DecodePartitionBirth(b []byte) (*PartitionBirth, error) {
	r := newReader(b)
	if v := r.U8(); r.Err() == nil && v != partitionBirthVersion {
		return nil, fmt.Errorf("partition birth: version %d, this program reads %d", v, partitionBirthVersion)
	}
	p := &PartitionBirth{Topic: r.ID(), Number: int32(r.U32()), Settings: r.settings()}
	for _, ids := range []*[]uint64{&p.Voters, &p.Learners} {
		for range r.Count(8) {
			*ids = append(*ids, r.U64())
		}
	}
	p.Replicas = r.replicas()
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("partition birth: %w", err)
	}
	return p, nil
}

func (w *writer) replicas(list []Replica) {
	w.Count(len(list))
	for _, p := range list {
		w.U64(p.ID)
		w.U64(p.NodeID)
		w.ID(p.Dir)
	}
}

func (r *reader) replicas() (list []Replica) {
	for range r.Count(8 + 8 + 16) {
		list = append(list, Replica{ID: r.U64(), NodeID: r.U64(), Dir: r.ID()})
	}
	return list
}
