package cluster

import (
	"fmt"
	"slices"
)

// Limits (architecture D19). Reaching one is answered ReasonLimit.
const (
	TopicsMax          = 10_000
	PartitionsMax      = 1_000 // per topic
	PartitionsTotalMax = 100_000
	ReplicationMax     = 5
	topicNameBytesMax  = 249
	producerIDsMax     = 100_000 // in one block
	requestsKept       = 4096
	addrBytesMax       = 256
)

// State is the metadata group's state. One goroutine owns it.
type State struct {
	birth *Birth
	view  *View

	// All of these but moving are the view's: they are replaced, never changed in place.
	brokers    []Broker
	seats      []Seat
	gone       []Gone
	meta       Partition
	topics     []*Topic
	byID       []*Topic
	tombstones []tombstone
	access     *Access
	version    uint64
	commands   uint32 // active version; only raised
	known      uint32 // the newest that this build carries out

	// moving are the partitions of topics that are on the move.
	moving map[ID]movingRef
	// misplaced: some wanted replica may be where it can't stay. Invariant: if it is false, none is.
	misplaced   bool
	rebalancing bool

	nextReplica  uint64
	nextProducer int64
	partitions   int // of all topics

	// results of the last requestsKept commands, by request id and in order of application.
	results  map[ID][]byte
	requests []ID
}

// NewState is the state of a newborn cluster: no broker is registered, no topic is there.
func NewState(birth *Birth) *State { return NewStateKnowing(birth, CommandsKnown) }

// NewStateKnowing is NewState in a build that carries out commands up to version known and takes newer ones for malformed: what two
// builds make of the same log can be compared.
func NewStateKnowing(birth *Birth, known uint32) *State {
	s := &State{birth: birth, known: known, nextReplica: uint64(len(birth.Members)) + 1, nextProducer: 1, commands: commandsFirst, access: &Access{}, results: map[ID][]byte{}, moving: map[ID]movingRef{}}
	p := birth.Partition()
	s.meta = Partition{Number: -1, Group: birth.MetadataGroup, Replicas: p.Replicas, Voters: p.Voters, Learners: p.Learners, Current: p.Voters, BornVoters: p.Voters, BornLearners: p.Learners}
	for _, m := range birth.Members {
		s.seats = append(s.seats, Seat{NodeID: m.NodeID, DirID: m.DirID, ReplicaID: m.ReplicaID})
	}
	return s
}

// View is the state as others see it. It is the same pointer until a command changes something in it.
func (s *State) View() *View {
	if s.view == nil {
		s.view = &View{ClusterID: s.birth.ClusterID, ClusterName: s.birth.ClusterName, MetadataGroup: s.birth.MetadataGroup,
			MetadataReplicas: s.meta.Replicas, Metadata: s.meta, Version: s.version, Rebalancing: s.rebalancing, Commands: s.commands,
			brokers: s.brokers, seats: s.seats, gone: s.gone, moving: s.movingList(), topics: s.topics, byID: s.byID, tombstones: s.tombstones, access: s.access, nextReplica: s.nextReplica}
	}
	return s.view
}

func (s *State) changed(index uint64) { s.view, s.version = nil, index }

// Apply carries out the command of entry index. The result (DecodeResult) is the same for a command that was applied before with
// the same request id. appendTimeMs is not used yet.
func (s *State) Apply(index uint64, _ int64, command []byte) []byte {
	id, ok := RequestID(command)
	if !ok {
		return (&Result{Reason: ReasonInvalid, Message: "malformed command"}).encode()
	}
	if old, ok := s.results[id]; ok {
		return old
	}
	x := s.apply(index, command)
	result := x.encode()
	s.remember(id, result)
	return result
}

func (s *State) remember(id ID, result []byte) {
	if len(s.requests) == requestsKept {
		delete(s.results, s.requests[0])
		s.requests = s.requests[1:]
	}
	s.requests = append(s.requests, id)
	s.results[id] = result
}

func (s *State) apply(index uint64, command []byte) Result {
	r := newReader(command[commandHeadBytes:])
	if command[0] != commandVersion {
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("command version %d: the brokers run version %d", command[0], commandVersion)}
	}
	if sinceOf(command[1]) > s.known {
		return malformed(command[1])
	}
	switch command[1] {
	case kindRegisterBroker:
		if c := r.registerBroker(s.known); r.End() == nil {
			return s.registerBroker(index, c)
		}
	case kindCreateTopic:
		c := r.createTopic()
		if r.End() == nil {
			c.RequestID, _ = RequestID(command)
			return s.createTopic(index, c)
		}
	case kindDeleteTopic:
		if c := r.deleteTopic(); r.End() == nil {
			return s.deleteTopic(index, c)
		}
	case kindAllocProducerIDs:
		if n := r.U32(); r.End() == nil {
			return s.allocProducerIDs(n)
		}
	case kindAlterTopic:
		if c := r.alterTopic(); r.End() == nil {
			return s.alterTopic(index, c)
		}
	case kindAddPartitions:
		if c := r.addPartitions(); r.End() == nil {
			return s.addPartitions(index, c)
		}
	case kindConfirmRemoved:
		if c := r.confirmRemoved(); r.End() == nil {
			return s.confirmRemoved(index, c)
		}
	case kindRaiseCommands:
		if to := r.U32(); r.End() == nil {
			return s.raiseCommands(index, to)
		}
	case kindSetAway:
		if nodes := r.ids(); r.End() == nil {
			return s.setAway(index, nodes)
		}
	}
	if x, ok := s.applyMembers(index, command[1], r); ok {
		return x
	}
	if x, ok := s.applyAccess(index, command[1], r); ok {
		return x
	}
	return malformed(command[1])
}

func malformed(kind uint8) Result {
	return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("malformed command of kind %d", kind)}
}

func (s *State) registerBroker(index uint64, c RegisterBroker) Result {
	seat, x := s.seated(c.NodeID)
	switch {
	case x.Reason != ReasonNone:
		return x
	case seat.DirID != c.DirID:
		return Result{Reason: ReasonWrongDirectory, Message: fmt.Sprintf("node %d is registered with data directory %x, not %x: start it with its own data directory, or with an empty one", c.NodeID, seat.DirID[:4], c.DirID[:4])}
	}
	if x := s.checkKnown(&c); x.Reason != ReasonNone {
		return x
	}
	for _, a := range []string{c.ClientAddr, c.PeerAddr, c.HTTPAddr, c.Version} {
		if len(a) > addrBytesMax {
			return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("an address of %d bytes: at most %d", len(a), addrBytesMax)}
		}
	}
	if len(c.Rack) > rackBytesMax {
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("a rack's name of %d bytes: at most %d", len(c.Rack), rackBytesMax)}
	}
	b := Broker{NodeID: c.NodeID, DirID: c.DirID, ReplicaID: seat.ReplicaID, ClientAddr: c.ClientAddr, PeerAddr: c.PeerAddr, HTTPAddr: c.HTTPAddr, Version: c.Version, Rack: c.Rack}
	at, ok := findBroker(s.brokers, c.NodeID)
	if ok && s.brokers[at] == b {
		return Result{}
	}
	list := slices.Clone(s.brokers)
	if ok {
		list[at] = b
	} else {
		list = slices.Insert(list, at, b)
	}
	s.brokers = list
	if seat.PeerAddr != c.PeerAddr {
		seat.PeerAddr = c.PeerAddr
		s.putSeat(seat)
	}
	s.changed(index)
	s.advance(index) // it may be the one that waiting replicas can move to
	return Result{}
}

func (s *State) createTopic(index uint64, c CreateTopic) Result {
	if x := s.checkTopic(&c); x.Reason != ReasonNone {
		return x
	}
	at, exists := findName(s.topics, c.Name)
	if exists {
		return Result{Reason: ReasonTopicExists, Topic: s.topics[at].ID, Message: fmt.Sprintf("topic %q exists: see broker topic describe %s", c.Name, c.Name)}
	}
	t := &Topic{ID: derive(c.Seed, "topic", 0), Name: c.Name, Config: c.Config, ConfigVersion: index, RequestID: c.RequestID}
	idAt, taken := findID(s.byID, t.ID)
	if taken {
		return Result{Reason: ReasonInvalid, Message: "the seed was used before: retry with another"}
	}
	t.settle()
	t.Partitions = s.place(index, c.Seed, 0, c.Partitions, int(c.ReplicationFactor), t.Settings())
	s.topics = insert(s.topics, at, t)
	s.byID = insert(s.byID, idAt, t)
	s.partitions += len(t.Partitions)
	s.changed(index)
	return Result{Topic: t.ID}
}

// insert makes a new slice: the old one belongs to views.
func insert[T any](list []T, at int, v T) []T {
	out := make([]T, 0, len(list)+1)
	return append(append(append(out, list[:at]...), v), list[at:]...)
}

func remove[T any](list []T, at int) []T {
	out := make([]T, 0, len(list)-1)
	return append(append(out, list[:at]...), list[at+1:]...)
}

func (s *State) deleteTopic(index uint64, c DeleteTopic) Result {
	at, x := s.named(c.Name, c.Topic)
	if x.Reason != ReasonNone {
		return x
	}
	t := s.topics[at]
	idAt, _ := findID(s.byID, t.ID)
	s.topics, s.byID = remove(s.topics, at), remove(s.byID, idAt)
	s.partitions -= len(t.Partitions)
	for i := range t.Partitions {
		p := &t.Partitions[i]
		delete(s.moving, p.Group)
		s.bury(p.Group, p.Replicas)
	}
	s.changed(index)
	s.advance(index)
	return Result{Topic: t.ID}
}

// bury leaves a tombstone for each replica whose directory can still hold it.
func (s *State) bury(group ID, replicas []Replica) {
	list := slices.Clone(s.tombstones)
	for _, r := range replicas {
		if seat, ok := s.seat(r.NodeID); ok && seat.DirID == r.Dir {
			list = append(list, tombstone{group: group, replica: r.ID, dir: r.Dir})
		}
	}
	slices.SortFunc(list, compareTombstones)
	s.tombstones = list
}

func (s *State) confirmRemoved(index uint64, c ConfirmRemoved) Result {
	list := slices.Clone(s.tombstones)
	for _, g := range c.Groups {
		if at, ok := findTombstone(list, g, c.DirID); ok {
			list = slices.Delete(list, at, at+1)
		}
	}
	s.tombstones = list
	s.changed(index)
	s.advance(index) // a directory takes a new replica of a group only when the old one is gone
	return Result{}
}

func (s *State) allocProducerIDs(count uint32) Result {
	if count == 0 || count > producerIDsMax {
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("%d producer ids: ask for 1 to %d", count, producerIDsMax)}
	}
	first := s.nextProducer
	s.nextProducer += int64(count)
	return Result{First: first}
}

// checkTopic refuses what can't be created, with every fault named, and sorts the settings.
func (s *State) checkTopic(c *CreateTopic) Result {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := CheckTopicName(c.Name); err != nil {
		faults = append(faults, err)
	}
	if c.Partitions < 1 || c.Partitions > PartitionsMax {
		fault("%d partitions: 1 to %d are possible", c.Partitions, PartitionsMax)
	}
	if c.ReplicationFactor < 1 || c.ReplicationFactor > ReplicationMax {
		fault("replication factor %d: 1 to %d are possible", c.ReplicationFactor, ReplicationMax)
	}
	sortConfig(c.Config)
	if err := CheckSettings(c.Config); err != nil {
		faults = append(faults, err)
	}
	if err := joined(faults); err != nil {
		return Result{Reason: ReasonInvalid, Message: err.Error()}
	}
	switch {
	case int(c.ReplicationFactor) > s.placeable():
		return Result{Reason: ReasonNotEnoughBrokers, Message: fmt.Sprintf("replication factor %d, but %d brokers are registered: start more brokers or say --replication-factor %d", c.ReplicationFactor, s.placeable(), s.placeable())}
	case len(s.topics) >= TopicsMax:
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("%d topics exist: delete one first", TopicsMax)}
	case s.partitions+int(c.Partitions) > PartitionsTotalMax:
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("%d partitions exist, %d are possible in all: delete topics or ask for fewer partitions", s.partitions, PartitionsTotalMax)}
	}
	return Result{}
}
