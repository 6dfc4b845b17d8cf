package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// club is a state under test with what must be remembered of its past.
type club struct {
	t     *rapid.T
	s     *State
	index uint64
	dirs  uint64
	// where each replica id was seen first, and whether it was dropped since.
	where map[uint64]Replica
	group map[uint64]ID
	gone  map[uint64]bool
}

func newClub(t *rapid.T, brokers int) *club {
	c := &club{t: t, index: 1, where: map[uint64]Replica{}, group: map[uint64]ID{}, gone: map[uint64]bool{}}
	var members []Member
	for n := range brokers {
		members = append(members, Member{NodeID: uint64(n + 1), DirID: c.dir()})
	}
	c.s = NewState(ComputeBirth("club", members))
	for _, m := range members {
		c.announce(m.NodeID)
	}
	return c
}

func (c *club) dir() ID {
	c.dirs++
	return ID{1, byte(c.dirs), byte(c.dirs >> 8)}
}

func (c *club) request() ID { return ID{2, byte(c.index), byte(c.index >> 8), byte(c.index >> 16)} }

// body is the state's bytes without the answers that it remembers.
func (c *club) body() []byte {
	s := *c.s
	s.requests, s.version = nil, 0
	return s.Snapshot()
}

// do applies a command, holds the state against its rules, and demands that a refusal changes nothing.
func (c *club) do(command []byte) Result {
	c.t.Helper()
	before := c.body()
	c.index++
	x, err := DecodeResult(c.s.Apply(c.index, 0, command))
	if err != nil {
		c.t.Fatal(err)
	}
	if x.Reason != ReasonNone && !bytes.Equal(before, c.body()) {
		c.t.Fatalf("refused (%s: %s) and changed all the same", x.Reason, x.Message)
	}
	c.check()
	return x
}

func (c *club) announce(node uint64) {
	seat, ok := c.s.seat(node)
	if !ok || seat.DirID == (ID{}) {
		return
	}
	c.do(EncodeRegisterBroker(RegisterBroker{RequestID: c.request(), NodeID: node, DirID: seat.DirID, ClientAddr: fmt.Sprint(node), Version: SayKnown("v", CommandsKnown)}))
}

func (c *club) partitions(visit func(name string, p *Partition)) {
	for _, t := range c.s.View().Topics() {
		for i := range t.Partitions {
			visit(t.Name, &t.Partitions[i])
		}
	}
}

func (c *club) check() {
	c.t.Helper()
	there := map[uint64]bool{}
	look := func(name string, p *Partition) {
		nodes, dirs := map[uint64]bool{}, map[ID]bool{}
		for _, r := range p.Replicas {
			there[r.ID] = true
			if c.gone[r.ID] {
				c.t.Fatalf("%s/%d: replica %d was dropped and is back", name, p.Number, r.ID)
			}
			if old, ok := c.where[r.ID]; ok && (old != r || c.group[r.ID] != p.Group) {
				c.t.Fatalf("%s/%d: replica id %d is used twice", name, p.Number, r.ID)
			}
			c.where[r.ID], c.group[r.ID] = r, p.Group
			if dirs[r.Dir] {
				c.t.Fatalf("%s/%d: two replicas in one directory: %+v", name, p.Number, p.Replicas)
			}
			dirs[r.Dir] = true
			if _, buried := findTombstone(c.s.tombstones, p.Group, r.Dir); buried {
				c.t.Fatalf("%s/%d: replica %d comes before the old one is gone", name, p.Number, r.ID)
			}
		}
		for _, id := range slices.Concat(p.Voters, p.Learners) {
			r, ok := p.Replica(id)
			if !ok || nodes[r.NodeID] {
				c.t.Fatalf("%s/%d: wanted %v of %+v: not there, or two on a broker", name, p.Number, p.Voters, p.Replicas)
			}
			nodes[r.NodeID] = true
		}
		for _, id := range p.Current {
			if _, ok := p.Replica(id); !ok {
				c.t.Fatalf("%s/%d: replica %d votes and is not among %+v", name, p.Number, id, p.Replicas)
			}
		}
		if !p.Moving() && (len(p.Replicas) != len(p.Voters)+len(p.Learners) || !sameSet(p.Voters, p.Current)) {
			c.t.Fatalf("%s/%d is at rest with %+v, wanted %v", name, p.Number, p.Replicas, p.Voters)
		}
	}
	moving := 0
	c.partitions(func(name string, p *Partition) {
		look(name, p)
		if p.Moving() {
			moving++
		}
	})
	if moving > MovesMax || moving != len(c.s.moving) {
		c.t.Fatalf("%d partitions are on the move, %d are known, at most %d", moving, len(c.s.moving), MovesMax)
	}
	look("metadata", &c.s.meta)
	if n := len(c.s.meta.Voters); n == 0 || n > metadataVotersMax {
		c.t.Fatalf("%d voters of the metadata group", n)
	}
	for id := range c.where {
		c.gone[id] = !there[id]
	}
	again := NewState(c.s.birth)
	if err := again.Restore(c.s.Snapshot()); err != nil || !bytes.Equal(again.Snapshot(), c.s.Snapshot()) {
		c.t.Fatalf("the snapshot does not give the same state: %v", err)
	}
}

// settle lets the leaders of some groups on the move report, and some directories say that they removed what they had to.
func (c *club) settle(some func() bool) (progress bool) {
	var list []Moving
	for _, m := range c.s.View().Moving() {
		if some() {
			list = append(list, m)
		}
	}
	if len(list) > 0 {
		c.do(EncodeSettled(SettledGroups{RequestID: c.request(), Groups: list}))
		progress = true
	}
	for _, seat := range c.s.seats {
		var groups []ID
		for _, u := range c.s.View().Unconfirmed(seat.DirID) {
			groups = append(groups, u.Group)
		}
		if len(groups) > 0 && some() {
			c.do(EncodeConfirmRemoved(ConfirmRemoved{RequestID: c.request(), DirID: seat.DirID, Groups: groups}))
			progress = true
		}
	}
	return progress
}

// quiet lets everything that is under way arrive.
func (c *club) quiet() {
	for i := 0; c.settle(func() bool { return true }); i++ {
		if i > 10_000 {
			c.t.Fatal("the moves never end")
		}
	}
}

// Whatever is asked for in whatever order: replicas of a partition never share a broker or a directory, no id is used twice or comes back,
// moves are bounded, a refusal changes nothing, everything under way ends; then a broker that leaves holds nothing where there is room
// elsewhere, and a rebalance evens out.
func TestMembersKeepTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClub(t, rapid.IntRange(1, 6).Draw(t, "brokers"))
		node := func() uint64 { return rapid.Uint64Range(1, 9).Draw(t, "node") }
		some := func() bool { return rapid.Bool().Draw(t, "some") }
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0:
				c.do(EncodeAddBroker(AddBroker{RequestID: c.request(), NodeID: node(), PeerAddr: "a:1"}))
			case 1, 2:
				n := node()
				seat, _ := c.s.seat(n)
				if x := c.do(EncodeJoinBroker(JoinBroker{RequestID: c.request(), NodeID: n, DirID: c.dir(), OldDirID: seat.DirID, PeerAddr: "a:1"})); x.Reason == ReasonNone && some() {
					c.announce(n)
				}
			case 3:
				c.announce(node())
			case 4:
				c.do(EncodeRemoveBroker(RemoveBroker{RequestID: c.request(), NodeID: node()}))
			case 5:
				c.do(EncodeDecommission(Decommission{RequestID: c.request(), NodeID: node(), Cancel: some()}))
			case 6:
				nodes := rapid.SliceOfN(rapid.Uint64Range(1, 9), 1, 4).Draw(t, "nodes")
				c.do(EncodeReassign(Reassign{RequestID: c.request(), Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic"), Partition: rapid.Int32Range(0, 50).Draw(t, "partition"), Nodes: nodes}))
			case 7:
				c.do(EncodeRebalance(c.request()))
			case 8:
				c.do(EncodeCreateTopic(CreateTopic{RequestID: c.request(), Seed: c.request(), Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic"),
					Partitions: rapid.Int32Range(1, 50).Draw(t, "partitions"), ReplicationFactor: rapid.Int32Range(1, 4).Draw(t, "replication")}))
			case 9:
				c.do(EncodeDeleteTopic(DeleteTopic{RequestID: c.request(), Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic")}))
			case 10:
				c.settle(some)
			case 11:
				c.forfeit(rapid.SliceOfN(rapid.Uint64Range(1, 9), 1, 3).Draw(t, "lost")...)
			}
		}
		c.quiet()
		room := c.s.placeable()
		c.partitions(func(name string, p *Partition) {
			for _, id := range p.Voters {
				if r, _ := p.Replica(id); !c.s.stays(r) && len(p.Voters) <= room {
					t.Fatalf("%s/%d stays on node %d, which can't keep it; %d brokers have room", name, p.Number, r.NodeID, room)
				}
			}
		})
		c.do(EncodeRebalance(c.request()))
		c.quiet()
		if c.s.misplaced {
			return // some replicas have no place: nothing is evened out before they do
		}
		if c.s.rebalancing {
			t.Fatal("the rebalance does not end")
		}
		loads := c.s.loads()
		slices.SortFunc(loads, func(a, b *load) int { return a.replicas - b.replicas })
		if n := len(loads); n > 0 && loads[n-1].replicas-loads[0].replicas > 1 {
			t.Fatalf("node %d holds %d, node %d %d", loads[n-1].broker.NodeID, loads[n-1].replicas, loads[0].broker.NodeID, loads[0].replicas)
		}
	})
}

// A directory is given up only if every group keeps its majority, of those who vote and of those who shall.
func TestLostDirectoryNeedsAMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClub(t, 3)
		join := func(node uint64) Result {
			seat, _ := c.s.seat(node)
			return c.do(EncodeJoinBroker(JoinBroker{RequestID: c.request(), NodeID: node, DirID: c.dir(), OldDirID: seat.DirID, PeerAddr: "a:1"}))
		}
		c.do(EncodeCreateTopic(CreateTopic{RequestID: c.request(), Seed: c.request(), Name: "three", Partitions: 2, ReplicationFactor: 3}))
		if x := join(1); x.Reason != ReasonNone {
			t.Fatalf("one of three: %s: %s", x.Reason, x.Message)
		}
		if x := join(2); x.Reason != ReasonMajorityLost {
			t.Fatalf("a second one before the first is filled: %q", x.Reason)
		}
		c.quiet()
		if x := join(2); x.Reason != ReasonNone {
			t.Fatalf("a second one after the first is filled: %s: %s", x.Reason, x.Message)
		}
		c.quiet()
		for rf := int32(1); rf <= 2; rf++ {
			name := fmt.Sprint("rf", rf)
			c.do(EncodeCreateTopic(CreateTopic{RequestID: c.request(), Seed: c.request(), Name: name, Partitions: 3, ReplicationFactor: rf}))
			if x := join(3); x.Reason != ReasonMajorityLost {
				t.Fatalf("with %d replicas: %q", rf, x.Reason)
			}
			c.do(EncodeDeleteTopic(DeleteTopic{RequestID: c.request(), Name: name}))
		}
		if x := join(3); x.Reason != ReasonNone {
			t.Fatalf("with those topics deleted: %s: %s", x.Reason, x.Message)
		}
	})
}

// A leader's report about a configuration that is not wanted any more drops no replica: the partition was sent back meanwhile.
func TestStaleReportDropsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClub(t, 4)
		c.do(EncodeCreateTopic(CreateTopic{RequestID: c.request(), Seed: c.request(), Name: "t", Partitions: 1, ReplicationFactor: 3}))
		p := func() *Partition {
			topic, _ := c.s.View().TopicByName("t")
			return &topic.Partitions[0]
		}
		var here []uint64
		for _, r := range p().Replicas {
			here = append(here, r.NodeID)
		}
		away := uint64(10) - here[0] - here[1] - here[2]
		move := func(nodes ...uint64) {
			if x := c.do(EncodeReassign(Reassign{RequestID: c.request(), Name: "t", Nodes: nodes})); x.Reason != ReasonNone {
				t.Fatalf("%s: %s", x.Reason, x.Message)
			}
		}
		move(here[0], here[1], away)
		report := c.s.View().Moving()
		move(here...)
		c.do(EncodeSettled(SettledGroups{RequestID: c.request(), Groups: report}))
		if len(p().Replicas) != 4 || !p().Moving() {
			t.Fatalf("after a stale report: %+v", p().Replicas)
		}
		c.quiet()
		if len(p().Replicas) != 3 || p().Moving() {
			t.Fatalf("back: %+v", p().Replicas)
		}
	})
}

// A broker is emptied and stays after all; before it has removed what it held, another one is emptied. The partition goes back to the
// first only when its old replica is gone from there.
func TestNewReplicaWaitsForTheOldOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClub(t, 2)
		c.do(EncodeCreateTopic(CreateTopic{RequestID: c.request(), Seed: c.request(), Name: "t", Partitions: 1, ReplicationFactor: 1}))
		on := func() uint64 {
			topic, _ := c.s.View().TopicByName("t")
			return topic.Partitions[0].Replicas[0].NodeID
		}
		decommission := func(node uint64, cancel bool) {
			if x := c.do(EncodeDecommission(Decommission{RequestID: c.request(), NodeID: node, Cancel: cancel})); x.Reason != ReasonNone {
				t.Fatalf("%s: %s", x.Reason, x.Message)
			}
		}
		settle := func() {
			c.do(EncodeSettled(SettledGroups{RequestID: c.request(), Groups: c.s.View().Moving()}))
		}
		first := on()
		decommission(first, false)
		settle()
		other := on()
		if other == first {
			t.Fatal("nothing moved")
		}
		decommission(first, true)
		decommission(other, false)
		settle()
		if on() != other {
			t.Fatalf("back on node %d, which still holds the old replica", first)
		}
		c.quiet()
		if on() != first {
			t.Fatal("it never went back")
		}
	})
}
