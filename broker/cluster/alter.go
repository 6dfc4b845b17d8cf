package cluster

import (
	"fmt"
	"slices"
)

// AlterTopic changes settings of a topic; Topic, if it is not zero, must be its id. The answer's Topic is its id.
type AlterTopic struct {
	RequestID ID
	Name      string
	Topic     ID
	Set       []ConfigEntry
	Unset     []string // back to the default
}

// EncodeAlterTopic makes the command's bytes.
func EncodeAlterTopic(c AlterTopic) []byte {
	w := newCommand(kindAlterTopic, c.RequestID)
	w.Str(c.Name)
	w.ID(c.Topic)
	w.config(c.Set)
	w.Count(len(c.Unset))
	for _, k := range c.Unset {
		w.Str(k)
	}
	return w.Data()
}

func (r *reader) alterTopic() AlterTopic {
	c := AlterTopic{Name: r.Str(), Topic: r.ID(), Set: r.config()}
	for range r.Count(4) {
		c.Unset = append(c.Unset, r.Str())
	}
	return c
}

// AddPartitions gives a topic more partitions; the old ones keep their records and their leaders. The answer's Topic is its id.
type AddPartitions struct {
	RequestID  ID
	Seed       ID // chance of the proposer: group ids come from it
	Name       string
	Topic      ID
	Partitions int32 // that the topic shall have then
}

// EncodeAddPartitions makes the command's bytes.
func EncodeAddPartitions(c AddPartitions) []byte {
	w := newCommand(kindAddPartitions, c.RequestID)
	w.ID(c.Seed)
	w.Str(c.Name)
	w.ID(c.Topic)
	w.U32(uint32(c.Partitions))
	return w.Data()
}

func (r *reader) addPartitions() AddPartitions {
	return AddPartitions{Seed: r.ID(), Name: r.Str(), Topic: r.ID(), Partitions: int32(r.U32())}
}

// named finds a topic by name, and by id if one is given.
func (s *State) named(name string, id ID) (at int, x Result) {
	at, ok := findName(s.topics, name)
	switch {
	case !ok:
		return 0, Result{Reason: ReasonTopicNotFound, Message: fmt.Sprintf("topic %q not found: see broker topic list", name)}
	case id != (ID{}) && s.topics[at].ID != id:
		return 0, Result{Reason: ReasonTopicNotFound, Message: fmt.Sprintf("topic %q was deleted and created again: ask for it anew", name)}
	}
	return at, Result{}
}

// replaceTopic puts a changed copy in the place of a topic.
func (s *State) replaceTopic(index uint64, at int, t *Topic) {
	idAt, _ := findID(s.byID, t.ID)
	s.topics, s.byID = slices.Clone(s.topics), slices.Clone(s.byID)
	s.topics[at], s.byID[idAt] = t, t
	s.changed(index)
}

func (s *State) alterTopic(index uint64, c AlterTopic) Result {
	at, x := s.named(c.Name, c.Topic)
	if x.Reason != ReasonNone {
		return x
	}
	var faults []error
	for _, k := range c.Unset {
		if _, ok := findSetting(k); !ok {
			faults = append(faults, fmt.Errorf("unknown setting %s: known are %s", k, settingKeys()))
		}
		if slices.ContainsFunc(c.Set, func(e ConfigEntry) bool { return e.Key == k }) {
			faults = append(faults, fmt.Errorf("setting %s is both set and unset", k))
		}
	}
	sortConfig(c.Set)
	if err := CheckSettings(c.Set); err != nil {
		faults = append(faults, err)
	}
	if err := joined(faults); err != nil {
		return Result{Reason: ReasonInvalid, Message: err.Error()}
	}
	t := *s.topics[at]
	t.Config = alterConfig(t.Config, c.Set, c.Unset)
	if !slices.Equal(t.Config, s.topics[at].Config) {
		t.ConfigVersion = index
		t.settle()
		s.replaceTopic(index, at, &t)
	}
	return Result{Topic: t.ID}
}

func (s *State) addPartitions(index uint64, c AddPartitions) Result {
	at, x := s.named(c.Name, c.Topic)
	if x.Reason != ReasonNone {
		return x
	}
	t := *s.topics[at]
	have, replication := int32(len(t.Partitions)), len(t.Partitions[0].Voters)
	switch more := int(c.Partitions - have); {
	case more == 0:
		return Result{Topic: t.ID}
	case more < 0:
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("topic %q has %d partitions: they can become more, never fewer (delete and create it anew)", c.Name, have)}
	case c.Partitions > PartitionsMax:
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("%d partitions: 1 to %d are possible", c.Partitions, PartitionsMax)}
	case s.partitions+more > PartitionsTotalMax:
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("%d partitions exist, %d are possible in all: delete topics or ask for fewer partitions", s.partitions, PartitionsTotalMax)}
	case replication > s.placeable():
		return Result{Reason: ReasonNotEnoughBrokers, Message: fmt.Sprintf("replication factor %d, but %d brokers can take replicas: start more brokers", replication, s.placeable())}
	}
	added := s.place(index, c.Seed, have, c.Partitions, replication, t.Settings())
	t.Partitions = append(slices.Clone(t.Partitions), added...)
	s.partitions += len(added)
	s.replaceTopic(index, at, &t)
	return Result{Topic: t.ID}
}
