package core

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "lograft/api/lograft/v1"
)

// moving is a consumer of topic "t" whose brokers are the test.
type moving struct {
	t     *testing.T
	c     *Consumer
	now   int64
	eff   ConsumerEffects
	asks  map[int32]*pb.FetchStreamRequest // of each partition, the newest
	at    map[int32]string                 // where it went
	offs  []OffsetsAsk
	ended []string
	looks int
}

func newMoving(t *testing.T, s Subscription) *moving {
	m := &moving{t: t, c: NewConsumer(ConsumerOptions{Rand: rand.New(rand.NewPCG(1, 1))}), now: 1, asks: map[int32]*pb.FetchStreamRequest{}, at: map[int32]string{}}
	s.Topic = "t"
	m.step(&ConsumerEvent{Subscribe: []Subscription{s}})
	return m
}

func (m *moving) step(ev *ConsumerEvent) {
	m.now++
	m.c.Step(m.now, ev, &m.eff)
	for _, s := range m.eff.Send {
		n := s.Message.GetRequest().GetPartition().GetPartition()
		m.asks[n], m.at[n] = s.Message, s.Address
	}
	m.offs = append(m.offs, m.eff.Offsets...)
	m.looks += len(m.eff.Metadata)
	for _, e := range m.eff.Ended {
		m.ended = append(m.ended, fmt.Sprintf("%d %v", e.Partition, e.Err))
	}
}

// tell gives metadata: topic id, and for each partition its nodes.
func (m *moving) tell(watched bool, id byte, nodes ...[]uint64) {
	r := &pb.GetMetadataResponse{}
	for n := range uint64(9) {
		r.Brokers = append(r.Brokers, &pb.Broker{Node: n, ClientAddress: fmt.Sprintf("node%d:1", n)})
	}
	if id != 0 {
		topic := &pb.Topic{Name: "t", Id: slices.Repeat([]byte{id}, 16)}
		for i, list := range nodes {
			p := &pb.Partition{Number: int32(i)}
			for _, n := range list {
				p.Replicas = append(p.Replicas, &pb.Replica{Id: n, Node: n})
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		r.Topics = append(r.Topics, topic)
	}
	m.step(&ConsumerEvent{Metadata: &MetadataAnswer{Watched: watched, Topics: []string{"t"}, Response: r}})
}

// refuse refuses the waiting fetch of a partition, and lets the pause pass.
func (m *moving) refuse(partition int32, reason string) {
	m.step(&ConsumerEvent{Answer: &pb.FetchStreamResponse{CorrelationId: m.asks[partition].GetCorrelationId(), Error: &pb.Error{Reason: reason}}})
	m.now += retryMax
	m.step(&ConsumerEvent{Timer: true})
}

func from(offset int64) Subscription {
	return Subscription{Start: Position{From: Absolute, Offset: offset}}
}

// When every replica that was known has refused, the topic is looked up again, and the partition is read on where its replicas are now.
func TestConsumerFollowsMovedReplicas(t *testing.T) {
	m := newMoving(t, from(7))
	m.tell(false, 1, []uint64{1, 2})
	m.refuse(0, reasonUnknownPartition)
	if m.looks != 1 {
		t.Fatalf("%d looks after one of two replicas refused, want the first alone", m.looks)
	}
	m.refuse(0, reasonUnknownPartition)
	if m.looks != 2 {
		t.Fatalf("%d looks after both refused", m.looks)
	}
	m.tell(false, 1, []uint64{3, 4})
	m.refuse(0, reasonUnknownPartition) // the try that was under way
	if at := m.at[0]; at != "node3:1" && at != "node4:1" || m.asks[0].GetRequest().GetOffset() != 7 {
		t.Errorf("reads from %s at %d, its replicas are on nodes 3 and 4", at, m.asks[0].GetRequest().GetOffset())
	}
	if len(m.ended) != 0 {
		t.Errorf("ended: %v", m.ended)
	}
}

// A watched change moves a reader before anything fails; what a broker that is behind does not know changes nothing.
func TestConsumerWatches(t *testing.T) {
	m := newMoving(t, Subscription{Start: Position{From: FromEnd}})
	m.tell(true, 1, []uint64{1}) // before the look is answered: not an answer
	if len(m.offs) != 0 {
		t.Fatal("what is watched was taken for the answer")
	}
	m.tell(false, 1, []uint64{1})
	m.step(&ConsumerEvent{Offsets: &OffsetsAnswer{Token: m.offs[0].Token, Response: &pb.ListOffsetsResponse{LogStart: 0, HighWatermark: 50}}})
	if m.asks[0].GetRequest().GetOffset() != 50 {
		t.Fatal("partition 0 begins at the end")
	}
	m.tell(true, 0)
	m.tell(true, 2, []uint64{1})
	m.tell(true, 1, []uint64{5}, []uint64{6})
	if n := len(m.offs); n != 2 || m.offs[1].Address != "node6:1" || m.offs[1].Request.GetPartition().GetPartition() != 1 {
		t.Fatalf("an added partition is not read: %+v", m.offs)
	}
	m.step(&ConsumerEvent{Offsets: &OffsetsAnswer{Token: m.offs[1].Token, Response: &pb.ListOffsetsResponse{LogStart: 0, HighWatermark: 9}}})
	if q := m.asks[1].GetRequest(); q == nil || q.GetOffset() != 0 {
		t.Error("an added partition is read from its beginning: all in it is newer than this consumer")
	}
	m.refuse(0, reasonNotReady)
	if m.at[0] != "node5:1" {
		t.Errorf("partition 0 is read from %s, it moved to node 5", m.at[0])
	}
	if len(m.ended) != 0 {
		t.Errorf("ended: %v", m.ended)
	}
	fixed := newMoving(t, Subscription{Start: Position{From: FromStart}, Stop: &Position{From: FromEnd}})
	fixed.tell(false, 1, []uint64{1})
	fixed.tell(true, 1, []uint64{1}, []uint64{1})
	if len(fixed.offs) != 1 {
		t.Error("who reads to the end as it was reads no partition that came after")
	}
}

// A topic that was deleted, or deleted and created again, ends its readers with the reason as soon as its replicas refuse.
func TestConsumerOfADeletedTopic(t *testing.T) {
	for id, want := range map[byte]string{0: "not found", 2: "created again"} {
		m := newMoving(t, from(0))
		m.tell(false, 1, []uint64{1})
		m.refuse(0, reasonUnknownPartition)
		if m.tell(false, id, []uint64{1}); len(m.ended) != 1 || !strings.Contains(m.ended[0], want) || !m.c.Done() {
			t.Errorf("id %d: ended %v, want %q", id, m.ended, want)
		}
	}
}

// When the brokers that are asked anew refuse the user, every partition of the topic ends with that reason, but not before there was time to
// log in anew: a broker that was started again refuses a session that it forgot.
func TestConsumerIsRefused(t *testing.T) {
	m := newMoving(t, from(0))
	m.tell(false, 1, []uint64{1}, []uint64{1})
	m.step(&ConsumerEvent{Down: "node1:1", DownError: errors.New("the user was deleted")})
	if len(m.ended) != 0 || m.looks != 2 {
		t.Fatalf("%d looks, ended %v: a stream that broke is no reason to give up", m.looks, m.ended)
	}
	refuse := func() {
		m.step(&ConsumerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Err: &Error{Reason: reasonUnauthenticated, Message: "user or password is wrong"}}})
	}
	if refuse(); len(m.ended) != 0 {
		t.Fatalf("ended %v when the session may only be forgotten", m.ended)
	}
	m.now += refusedForGood
	refuse()
	if !slices.Equal(m.ended, []string{"0 user or password is wrong", "1 user or password is wrong"}) || !m.c.Done() {
		t.Errorf("ended %v", m.ended)
	}
}
