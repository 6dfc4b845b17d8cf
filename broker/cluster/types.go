package cluster

import (
	"slices"
	"strings"
)

// ID is a uuid: of the cluster, a data directory, a topic, a group or a request.
type ID = [16]byte

// Broker is a registered broker.
type Broker struct {
	NodeID     uint64
	DirID      ID
	ReplicaID  uint64 // of its replica of the metadata group
	ClientAddr string
	PeerAddr   string
	HTTPAddr   string
	Version    string // as it registered it, see Build and Commands
	Rack       string // empty: none, the broker is a rack by itself
	Away       bool   // it can't be reached, as far as the metadata group's leader knows
}

// Replica is a place of a partition's log: a Raft id bound to one data directory of one broker (architecture D11).
type Replica struct {
	ID     uint64 // unique in the cluster, never used again
	NodeID uint64
	Dir    ID
}

// Partition is one Raft group: of a topic, or the metadata group itself (Number -1).
//
// Commands change what is wanted. The group's leader makes the configuration so and reports it (Settled); only then those replicas are
// dropped that are not wanted any more.
type Partition struct {
	Number int32
	Group  ID
	// Replicas are all that may hold files of the group, now and to come: those wanted first, in the order of Voters and Learners.
	Replicas []Replica
	Voters   []uint64 // wanted, the preferred leader first
	Learners []uint64 // wanted without a vote: only of the metadata group (architecture D21)
	Version  uint64   // metadata index of the command that set Voters and Learners last
	Settled  uint64   // the last Version that a leader reported to be in effect
	Current  []uint64 // the voters of that version: who votes unless the group is moving
	// BornVoters and BornLearners are those of the birth snapshot: every other replica begins empty (architecture D12).
	BornVoters, BornLearners []uint64
	// Born are the topic's settings when the partition was created: every replica is born with the same ones, whenever it comes.
	// Later ones travel through the partition's own log.
	Born Settings
}

// Moving reports whether the wanted configuration is not known to be in effect yet.
func (p *Partition) Moving() bool { return p.Settled != p.Version }

// Replica is the replica with this id.
func (p *Partition) Replica(id uint64) (Replica, bool) {
	for _, r := range p.Replicas {
		if r.ID == id {
			return r, true
		}
	}
	return Replica{}, false
}

// wants reports whether a replica shall stay.
func (p *Partition) wants(id uint64) bool {
	return slices.Contains(p.Voters, id) || slices.Contains(p.Learners, id)
}

// ConfigEntry is a topic setting.
type ConfigEntry struct{ Key, Value string }

// Topic is immutable once it is part of a View.
type Topic struct {
	ID         ID
	Name       string
	Config     []ConfigEntry // sorted by key; settings that were not given are absent
	Partitions []Partition   // by number
	RequestID  ID            // of the command that created it
	// ConfigVersion is the metadata index of the command that set Config last.
	ConfigVersion uint64

	settings Settings // Config and the defaults
}

// settle computes the effective settings; it follows every change of Config.
func (t *Topic) settle() { t.settings = settingsOf(t.Config, t.ConfigVersion) }

// GroupsTopic is the internal topic whose partitions are the state machines of consumer groups (architecture D10, D17).
const GroupsTopic = "__groups"

// Internal reports whether a topic's name is one that only brokers create and delete.
func Internal(name string) bool { return strings.HasPrefix(name, "__") }

// Settings are the topic's effective settings.
func (t *Topic) Settings() Settings { return t.settings }

// MessageBytesMax bounds one record batch.
func (t *Topic) MessageBytesMax() int { return int(t.settings.MessageBytes) }

// View is the applied metadata at one index: immutable, shared by everyone.
type View struct {
	ClusterID        ID
	ClusterName      string
	MetadataGroup    ID
	MetadataReplicas []Replica // Metadata.Replicas
	Metadata         Partition // the metadata group itself
	Version          uint64    // index of the last command that changed it
	Rebalancing      bool      // replicas are being moved until all brokers hold as many
	Commands         uint32    // the active version of commands, see Feature

	brokers    []Broker // by node id
	seats      []Seat   // by node id
	gone       []Gone   // by node id
	moving     []Moving // by group id
	topics     []*Topic // by name
	byID       []*Topic // by topic id
	tombstones []tombstone
	access     *Access
	// nextReplica is the id that the next replica is given: smaller ones were given by this view or an older one.
	nextReplica uint64
}

// Access is who may do what.
func (v *View) Access() *Access { return v.access }

// Brokers are the registered brokers by node id. Not to be changed.
func (v *View) Brokers() []Broker { return v.brokers }

// Topics are all topics by name. Not to be changed.
func (v *View) Topics() []*Topic { return v.topics }

// BrokerByID is the registered broker with this node id.
func (v *View) BrokerByID(node uint64) (*Broker, bool) {
	i, ok := findBroker(v.brokers, node)
	if !ok {
		return nil, false
	}
	return &v.brokers[i], true
}

// TopicByName is the topic that has this name now.
func (v *View) TopicByName(name string) (*Topic, bool) {
	i, ok := findName(v.topics, name)
	if !ok {
		return nil, false
	}
	return v.topics[i], true
}

// TopicByID is the topic with this id: another one than a deleted topic of the same name.
func (v *View) TopicByID(id ID) (*Topic, bool) {
	i, ok := findID(v.byID, id)
	if !ok {
		return nil, false
	}
	return v.byID[i], true
}

func findBroker(list []Broker, node uint64) (int, bool) {
	return slices.BinarySearchFunc(list, node, func(b Broker, node uint64) int {
		switch {
		case b.NodeID < node:
			return -1
		case b.NodeID > node:
			return 1
		}
		return 0
	})
}

func findName(list []*Topic, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(t *Topic, name string) int { return strings.Compare(t.Name, name) })
}

func findID(list []*Topic, id ID) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(t *Topic, id ID) int { return slices.Compare(t.ID[:], id[:]) })
}

// tombstone is a replica that is gone for good and whose directory has not confirmed yet that it holds nothing of it.
type tombstone struct {
	group   ID
	replica uint64 // 0, of an older snapshot: whichever the directory holds
	dir     ID
}

func compareTombstones(a, b tombstone) int {
	if d := slices.Compare(a.group[:], b.group[:]); d != 0 {
		return d
	}
	return slices.Compare(a.dir[:], b.dir[:])
}

// findTombstone finds the one of a directory: it never has two of a group.
func findTombstone(list []tombstone, group, dir ID) (int, bool) {
	return slices.BinarySearchFunc(list, tombstone{group: group, dir: dir}, compareTombstones)
}
