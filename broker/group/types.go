package group

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ID is a uuid: of a topic, a member or a request.
type ID = [16]byte

// Limits (architecture D19). Reaching one is answered ReasonLimit or ReasonInvalid.
const (
	GroupsMax        = 10_000  // per partition of the internal topic
	MembersMax       = 1_000   // per group
	TopicsMax        = 1_000   // per group
	PartitionsMax    = 10_000  // per group, of all its topics
	OffsetsMax       = 500_000 // committed, per partition of the internal topic
	NameBytesMax     = 249
	clientIDBytesMax = 255
	instanceBytesMax = 249
	fencedKept       = 4 // ids per member that had its instance id before
	SessionMsMin     = 1_000
	SessionMsMax     = 30 * 60_000
	PollMsMin        = 1_000
	PollMsMax        = 24 * 3600_000
	requestsKept     = 256 // results of seek and delete
)

// TP names a partition of a topic.
type TP struct {
	Topic     string
	Partition int32
}

func compareTP(a, b TP) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}

// Topic is a topic as a group knows it.
type Topic struct {
	Name       string
	ID         ID    // another id is another topic: offsets of the old one are dropped
	Partitions int32 // 0: it does not exist
}

// Grant is a partition that a member holds, since a generation.
type Grant struct {
	TP
	Since int64
}

// Member is a member of a group.
type Member struct {
	ID       ID
	Instance uint64 // index of the entry that made it a member
	ClientID string
	// InstanceID, if it is not empty, makes the member static (Kafka's group.instance.id, KIP-345): who joins with the same one takes its
	// place with all that it may work on, and the membership that had it before is fenced.
	InstanceID string
	Fenced     []ID     // memberships that had InstanceID before, the newest last
	Topics     []string // subscribed, sorted
	SessionMs  uint32
	PollMs     uint32
	// Generation is the group's when Told or Waiting changed last; Acked is the last one that the member acknowledged.
	Generation, Acked int64
	Held              []Grant // by TP
	Target            []TP    // by TP
	Told              []Grant // Held that the target still has: what the member may work on
	Waiting           int     // partitions of Target that others still hold
}

// settled reports whether the member works on exactly its target and has said so.
func (m *Member) settled() bool {
	return m.Acked == m.Generation && m.Waiting == 0 && len(m.Held) == len(m.Told)
}

// Offset is a committed offset.
type Offset struct {
	Offset int64
	At     int64 // append time of the commit, ms
	Epoch  int32 // leader epoch of the last record before Offset (Kafka's KIP-320); 0: not known
}

// Group is the state of one group. Outside of this package it is a copy.
type Group struct {
	Name       string
	Generation int64
	Members    []*Member     // by id
	Topics     []Topic       // by name: those subscribed and those with offsets
	Offsets    map[TP]Offset // committed
	EmptySince int64         // append time (ms) since when there is no member; 0: there are members
}

// States of a group.
const (
	StateEmpty       = "empty"
	StateStable      = "stable"
	StateRebalancing = "rebalancing"
)

// State is the group's state in a word.
func (g *Group) State() string {
	if len(g.Members) == 0 {
		return StateEmpty
	}
	for _, m := range g.Members {
		if !m.settled() {
			return StateRebalancing
		}
	}
	return StateStable
}

// Committed lists the partitions with a committed offset, in order.
func (g *Group) Committed() []TP {
	list := make([]TP, 0, len(g.Offsets))
	for tp := range g.Offsets {
		list = append(list, tp)
	}
	slices.SortFunc(list, compareTP)
	return list
}

// Topic is the topic of this name.
func (g *Group) Topic(name string) (Topic, bool) {
	if i, ok := g.findTopic(name); ok {
		return g.Topics[i], true
	}
	return Topic{}, false
}

func (g *Group) findTopic(name string) (int, bool) {
	return slices.BinarySearchFunc(g.Topics, name, func(t Topic, name string) int { return strings.Compare(t.Name, name) })
}

func (g *Group) find(id ID) (int, bool) {
	return slices.BinarySearchFunc(g.Members, id, func(m *Member, id ID) int { return slices.Compare(m.ID[:], id[:]) })
}

// Member is the member with this id.
func (g *Group) Member(id ID) *Member {
	if i, ok := g.find(id); ok {
		return g.Members[i]
	}
	return nil
}

// static is the index of the member with this instance id, -1 if there is none.
func (g *Group) static(instance string) int {
	if instance == "" {
		return -1
	}
	return slices.IndexFunc(g.Members, func(m *Member) bool { return m.InstanceID == instance })
}

// fenced is the static member that took the place of a membership, nil if none did.
func (g *Group) fenced(id ID) *Member {
	if i := slices.IndexFunc(g.Members, func(m *Member) bool { return slices.Contains(m.Fenced, id) }); i >= 0 {
		return g.Members[i]
	}
	return nil
}

func (g *Group) clone() *Group {
	c := *g
	c.Members = make([]*Member, len(g.Members))
	for i, m := range g.Members {
		k := *m
		k.Fenced, k.Topics, k.Held, k.Target, k.Told = slices.Clone(m.Fenced), slices.Clone(m.Topics), slices.Clone(m.Held), slices.Clone(m.Target), slices.Clone(m.Told)
		c.Members[i] = &k
	}
	c.Topics = slices.Clone(g.Topics)
	c.Offsets = make(map[TP]Offset, len(g.Offsets))
	for tp, o := range g.Offsets {
		c.Offsets[tp] = o
	}
	return &c
}

// CheckName says what is wrong with a group's name: 1 to 249 bytes of printable UTF-8.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a group needs a name")
	case len(name) > NameBytesMax:
		return fmt.Errorf("a group's name of %d bytes: at most %d", len(name), NameBytesMax)
	case !utf8.ValidString(name):
		return fmt.Errorf("group name %q is not UTF-8", name)
	}
	if !printable(name) {
		return fmt.Errorf("group name %q has a character that can't be printed", name)
	}
	return nil
}

// printable reports whether s is UTF-8 that a terminal can show.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// PartitionOf is the partition of the internal topic that keeps a group: FNV-1a of its name.
func PartitionOf(name string, partitions int) int32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int32(h % uint32(partitions))
}

// Reason says why a command was refused; the words are those of docs/errors.md.
type Reason string

// Reasons of a Result.
const (
	ReasonNone            Reason = ""
	ReasonUnknownMember   Reason = "UNKNOWN_MEMBER"
	ReasonFencedInstance  Reason = "FENCED_INSTANCE_ID"
	ReasonStaleGeneration Reason = "STALE_GENERATION"
	ReasonGroupNotFound   Reason = "GROUP_NOT_FOUND"
	ReasonGroupNotEmpty   Reason = "GROUP_NOT_EMPTY"
	ReasonInvalid         Reason = "INVALID_ARGUMENT"
	ReasonLimit           Reason = "LIMIT_REACHED"
)

// Result answers a command.
type Result struct {
	Reason     Reason
	Message    string // names the fix
	Generation int64  // of the group
}
