package cluster

import (
	"bytes"
	"strings"
	"testing"
)

// stateOf is a cluster of n registered brokers.
func stateOf(t *testing.T, n int) *State {
	t.Helper()
	var members []Member
	for i := range n {
		members = append(members, Member{NodeID: uint64(i + 1), DirID: ID{byte(i + 1)}})
	}
	s := NewState(ComputeBirth("test", members))
	for i := range n {
		applied(t, s, EncodeRegisterBroker(RegisterBroker{RequestID: ID{0xff, byte(i)}, NodeID: uint64(i + 1), DirID: ID{byte(i + 1)}}))
	}
	return s
}

// index is the next entry of a state's log.
func index(s *State) uint64 { return uint64(len(s.requests)) + 2 }

func result(t *testing.T, s *State, command []byte) Result {
	t.Helper()
	x, err := DecodeResult(s.Apply(index(s), 0, command))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// applied wants the command to be taken.
func applied(t *testing.T, s *State, command []byte) Result {
	t.Helper()
	x := result(t, s, command)
	if x.Reason != ReasonNone {
		t.Fatalf("refused: %s: %s", x.Reason, x.Message)
	}
	return x
}

// refused wants the command to be refused for this reason, naming every one of words, without any effect.
func refused(t *testing.T, s *State, command []byte, reason Reason, words ...string) {
	t.Helper()
	view := s.View()
	x := result(t, s, command)
	if x.Reason != reason {
		t.Fatalf("reason %q (%s), want %s", x.Reason, x.Message, reason)
	}
	for _, w := range words {
		if !strings.Contains(x.Message, w) {
			t.Errorf("message %q does not name %q", x.Message, w)
		}
	}
	if s.View() != view {
		t.Error("a refused command changed the view")
	}
}

func create(id byte, name string, partitions int32, config ...ConfigEntry) []byte {
	return EncodeCreateTopic(CreateTopic{RequestID: ID{id}, Seed: ID{id}, Name: name, Partitions: partitions, ReplicationFactor: 3, Config: config})
}

// Every fault of a topic is named at once, and nothing is created.
func TestCreateNamesEveryFault(t *testing.T) {
	s := stateOf(t, 3)
	refused(t, s, EncodeCreateTopic(CreateTopic{RequestID: ID{1}, Name: "a b", Partitions: 0, ReplicationFactor: 9, Config: []ConfigEntry{
		{"retention.ms", "soon"}, {"segment.bytes", "1"}, {"nosuch", "1"}, {"message.timestamp.type", "Never"}, {"retention.ms", "5000"}, {"cleanup.policy", "compact"}}}),
		ReasonInvalid, `topic name "a b"`, "0 partitions", "replication factor 9", "retention.ms=soon", "is given twice", "segment.bytes=1: want a segment ends at this size, 4096 to 1073741824 bytes",
		"unknown setting nosuch: known are max.message.bytes, message.timestamp.type, retention.bytes, retention.ms, segment.bytes", "message.timestamp.type=Never", "cleanup.policy")
	for _, name := range []string{"", ".", "..", strings.Repeat("x", 250), "ä", "a/b", "a\x00"} {
		refused(t, s, create(2, name, 1), ReasonInvalid)
		s.requests, s.results = nil, map[ID][]byte{}
	}
	applied(t, s, create(3, strings.Repeat("x", 249), 1))
	applied(t, s, create(4, "a.b_C-9", 1))
}

// A retry of a create gets the answer of the first; a second create of the name says that it exists; a topic that was deleted and
// created again has another id.
func TestCreateIsIdempotent(t *testing.T) {
	s := stateOf(t, 3)
	first := applied(t, s, create(1, "t", 2))
	if again := applied(t, s, create(1, "t", 2)); again.Topic != first.Topic {
		t.Errorf("the retry got topic %x, the first %x", again.Topic, first.Topic)
	}
	refused(t, s, create(2, "t", 2), ReasonTopicExists)
	applied(t, s, EncodeDeleteTopic(DeleteTopic{RequestID: ID{3}, Name: "t"}))
	again := applied(t, s, create(4, "t", 2))
	if again.Topic == first.Topic {
		t.Error("the topic that was created again has the old id")
	}
	refused(t, s, EncodeDeleteTopic(DeleteTopic{RequestID: ID{5}, Name: "t", Topic: first.Topic}), ReasonTopicNotFound, "created again")
	refused(t, s, EncodeAlterTopic(AlterTopic{RequestID: ID{6}, Name: "t", Topic: first.Topic, Unset: []string{"retention.ms"}}), ReasonTopicNotFound, "created again")
}

func settingOf(t *testing.T, topic *Topic, key string) Setting {
	t.Helper()
	for _, s := range topic.AllSettings() {
		if s.Key == key {
			return s
		}
	}
	t.Fatalf("no setting %s", key)
	return Setting{}
}

func topicNamed(t *testing.T, s *State, name string) *Topic {
	t.Helper()
	topic, ok := s.View().TopicByName(name)
	if !ok {
		t.Fatalf("no topic %s", name)
	}
	return topic
}

// Altered settings are listed with their source and default; what the partitions were born with stays, so that a replica that comes
// later begins with the same bytes; the state survives a snapshot.
func TestAlterTopic(t *testing.T) {
	s := stateOf(t, 3)
	applied(t, s, create(1, "t", 1, ConfigEntry{"segment.bytes", "65536"}))
	old := topicNamed(t, s, "t")
	if got := settingOf(t, old, "retention.ms"); got.Given || got.Value != "604800000" || got.Default != "604800000" {
		t.Errorf("retention.ms is %+v: want the default", got)
	}
	at := index(s)
	applied(t, s, EncodeAlterTopic(AlterTopic{RequestID: ID{2}, Name: "t", Set: []ConfigEntry{{"segment.bytes", "131072"}, {"retention.ms", "-1"}, {"message.timestamp.type", "LogAppendTime"}}}))
	topic := topicNamed(t, s, "t")
	if got := topic.Settings(); got.SegmentBytes != 131072 || got.RetentionMs != Unlimited || !got.LogAppendTime || got.Version != at {
		t.Errorf("settings %+v", got)
	}
	if got := settingOf(t, topic, "segment.bytes"); !got.Given || got.Value != "131072" || got.Default != "67108864" {
		t.Errorf("segment.bytes is %+v", got)
	}
	if born := topic.birth(&topic.Partitions[0]).Settings; born.SegmentBytes != 65536 {
		t.Errorf("a replica that comes now is born with %+v, the others with 65536", born)
	}
	if old.Settings().SegmentBytes != 65536 || len(old.Config) != 1 {
		t.Error("the old view was changed in place")
	}
	version := s.View().Version
	applied(t, s, EncodeAlterTopic(AlterTopic{RequestID: ID{3}, Name: "t", Set: []ConfigEntry{{"segment.bytes", "131072"}}}))
	if s.View().Version != version {
		t.Error("setting what is set already changed the view")
	}
	applied(t, s, EncodeAlterTopic(AlterTopic{RequestID: ID{4}, Name: "t", Unset: []string{"segment.bytes"}}))
	if got := topicNamed(t, s, "t").Settings().SegmentBytes; got != SegmentBytesDefault {
		t.Errorf("segment.bytes is %d after unset", got)
	}
	refused(t, s, EncodeAlterTopic(AlterTopic{RequestID: ID{5}, Name: "t", Set: []ConfigEntry{{"retention.ms", "5"}, {"x", "y"}}, Unset: []string{"retention.ms", "z"}}),
		ReasonInvalid, "retention.ms=5", "unknown setting x", "unknown setting z", "both set and unset")
	refused(t, s, EncodeAlterTopic(AlterTopic{RequestID: ID{6}, Name: "nosuch", Unset: []string{"retention.ms"}}), ReasonTopicNotFound)
	sameAfterRestore(t, s)
}

func sameAfterRestore(t *testing.T, s *State) {
	t.Helper()
	n := NewState(s.birth)
	b := s.Snapshot()
	if err := n.Restore(b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(n.Snapshot(), b) {
		t.Error("a restored state has another snapshot")
	}
	for _, topic := range s.View().Topics() {
		if got := topicNamed(t, n, topic.Name).Settings(); got != topic.Settings() {
			t.Errorf("topic %s: settings %+v after the restore, %+v before", topic.Name, got, topic.Settings())
		}
	}
}

// More partitions come behind the old ones, which stay as they are; fewer are refused.
func TestAddPartitions(t *testing.T) {
	s := stateOf(t, 3)
	applied(t, s, create(1, "t", 2, ConfigEntry{"segment.bytes", "65536"}))
	old := topicNamed(t, s, "t")
	applied(t, s, EncodeAlterTopic(AlterTopic{RequestID: ID{2}, Name: "t", Set: []ConfigEntry{{"segment.bytes", "131072"}}}))
	add := func(id byte, n int32) []byte {
		return EncodeAddPartitions(AddPartitions{RequestID: ID{id}, Seed: ID{id}, Name: "t", Partitions: n})
	}
	applied(t, s, add(3, 4))
	applied(t, s, add(3, 4)) // a retry
	topic := topicNamed(t, s, "t")
	if len(topic.Partitions) != 4 || s.partitions != 4 || len(old.Partitions) != 2 {
		t.Fatalf("%d partitions, %d counted, %d in the old view", len(topic.Partitions), s.partitions, len(old.Partitions))
	}
	groups := map[ID]bool{}
	for i, p := range topic.Partitions {
		if p.Number != int32(i) || len(p.Replicas) != 3 || groups[p.Group] {
			t.Errorf("partition %d: %+v", i, p)
		}
		groups[p.Group] = true
		if want := []int64{65536, 65536, 131072, 131072}[i]; p.Born.SegmentBytes != want {
			t.Errorf("partition %d was born with segments of %d bytes, want %d", i, p.Born.SegmentBytes, want)
		}
		if i < 2 && p.Group != old.Partitions[i].Group {
			t.Errorf("partition %d has another group than before", i)
		}
	}
	applied(t, s, add(4, 4)) // has them
	refused(t, s, add(5, 3), ReasonInvalid, "never fewer")
	refused(t, s, add(6, PartitionsMax+1), ReasonInvalid, "1 to 1000")
	sameAfterRestore(t, s)
	b := topic.birth(&topic.Partitions[3])
	if got, err := DecodePartitionBirth(b.Encode()); err != nil || got.Settings != b.Settings || got.Number != 3 {
		t.Errorf("birth %+v decodes as %+v, %v", b, got, err)
	}
}
