package group

import (
	"fmt"
	"testing"

	"lograft/broker/partition"
)

var _ partition.Coordinator = (*Coordinator)(nil)

// desk is a coordinator whose commands are applied at once, on fake time.
type desk struct {
	t     *testing.T
	c     *Coordinator
	index uint64
	now   int64 // ns
	got   map[uint64]*Assignment
	topic Topic
	at    uint64 // version of the metadata
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, got: map[uint64]*Assignment{}, topic: topicT, now: 1, at: 1}
	d.c = NewCoordinator(Options{OffsetsRetentionMs: 1000_000, Metadata: func() (uint64, func(string) (ID, int32, bool)) {
		return d.at, func(string) (ID, int32, bool) { return d.topic.ID, d.topic.Partitions, d.topic.Partitions > 0 }
	}})
	d.c.Lead(d.now)
	return d
}

func (d *desk) apply(command []byte) {
	d.index++
	d.c.Apply(d.index, d.wall(), command)
	d.take()
}

func (d *desk) wall() int64 { return 1_700_000_000_000 + d.now/1e6 }

func (d *desk) take() {
	answers, commands := d.c.Take()
	for _, a := range answers {
		d.got[a.Token] = a.Value.(*Assignment)
	}
	for _, c := range commands {
		d.apply(c)
	}
}

// pass lets time pass in ticks of 100 ms; beats, if not nil, is called at each.
func (d *desk) pass(ms int64, beats func()) {
	for range ms / 100 {
		d.now += 100e6
		if beats != nil {
			beats()
		}
		d.c.Tick(d.now, d.wall())
		d.take()
	}
}

func (d *desk) join(member byte) {
	d.apply((&Join{Group: "g", Member: id(member), SessionMs: 10_000, PollMs: 20_000, Topics: []Topic{topicT}}).Encode())
}

func (d *desk) ask(token uint64, q any) *Assignment {
	d.c.Ask(d.now, 1, token, q)
	d.take()
	return d.got[token]
}

func (d *desk) beat(members ...byte) func() {
	return func() {
		for _, m := range members {
			d.ask(1000, Beat{"g", id(m)})
		}
	}
}

func (d *desk) members() string {
	out := ""
	if g := d.c.state.Group("g"); g != nil {
		for _, m := range g.Members {
			out += fmt.Sprint(m.ID[0], " ")
		}
	}
	return out
}

func (d *desk) wantMembers(want string) {
	d.t.Helper()
	if got := d.members(); got != want {
		d.t.Fatalf("members %q, want %q", got, want)
	}
}

// A fenced static member is told so by what waits for its assignment, and its successor is kept alive in its stead.
func TestFencedMemberIsTold(t *testing.T) {
	d := newDesk(t)
	join := func(member byte) {
		d.apply((&Join{Group: "g", Member: id(member), SessionMs: 10_000, PollMs: 20_000, Topics: []Topic{topicT}, InstanceID: "left"}).Encode())
	}
	join(1)
	a := d.ask(1, Watch{Group: "g", Member: id(1)})
	d.ask(2, Watch{Group: "g", Member: id(1), Generation: a.Generation})
	join(2)
	d.take()
	if got := d.got[2]; got == nil || got.Known || got.FencedBy != "left" {
		t.Fatalf("the watch of the one before was answered %+v", got)
	}
	if got := d.ask(3, Beat{"g", id(1)}); got.Known || got.FencedBy != "left" {
		t.Fatalf("a heartbeat of the one before was answered %+v", got)
	}
	d.pass(9_000, d.beat(1))
	d.wantMembers("2 ")
	d.pass(2_000, d.beat(1)) // a fenced one keeps nobody alive
	d.wantMembers("")
}

// Who is not heard for the session timeout is expired, not before and not much later; who beats stays.
func TestSessionTimeout(t *testing.T) {
	d := newDesk(t)
	d.join(1)
	d.join(2)
	d.pass(9_900, d.beat(2))
	d.wantMembers("1 2 ")
	d.pass(200, d.beat(2))
	d.wantMembers("2 ")
	if a := d.ask(1, Watch{Group: "g", Member: id(1)}); a == nil || a.Known {
		t.Errorf("the expired one is told %+v", a)
	}
	d.pass(60_000, d.beat(2))
	d.wantMembers("2 ")
}

// A member that beats but holds back what was withdrawn is expired after its poll timeout: the group goes on.
func TestPollTimeout(t *testing.T) {
	d := newDesk(t)
	d.join(1)
	d.join(2)
	d.pass(19_900, d.beat(1, 2))
	d.wantMembers("1 2 ")
	d.pass(200, d.beat(1, 2))
	d.wantMembers("2 ")
}

// A new leader gives every member a whole session; time in which the broker itself stood still counts against nobody.
func TestLeadAndPause(t *testing.T) {
	d := newDesk(t)
	d.join(1)
	d.pass(9_000, nil)
	d.c.Rest()
	d.now += 60e9
	d.c.Lead(d.now)
	d.pass(9_900, nil)
	d.wantMembers("1 ")
	d.now += 60e9 // SIGSTOP and SIGCONT: heartbeats wait in the sockets
	d.c.Tick(d.now, d.wall())
	d.take()
	d.wantMembers("1 ")
	d.pass(200, nil)
	d.wantMembers("")
}

// A watch is answered when what its member is told changes, once.
func TestWatch(t *testing.T) {
	d := newDesk(t)
	d.join(1)
	first := d.ask(1, Watch{Group: "g", Member: id(1)})
	if first == nil || len(first.Partitions) != 4 || first.Partitions[0].Committed != -1 {
		t.Fatalf("told %+v", first)
	}
	if a := d.ask(2, Watch{"g", id(1), first.Generation}); a != nil {
		t.Fatalf("answered although nothing changed: %+v", a)
	}
	d.join(2)
	a := d.got[2]
	if a == nil || len(a.Partitions) != 2 || a.Generation <= first.Generation {
		t.Fatalf("told %+v", a)
	}
	d.ask(3, Watch{"g", id(1), a.Generation})
	d.c.Forget(1)
	d.apply((&Leave{Group: "g", Member: id(2)}).Encode())
	if d.got[3] != nil {
		t.Errorf("a session that is gone was answered")
	}
}

// Partitions that a topic gains reach the members within two seconds.
func TestMetadataChange(t *testing.T) {
	d := newDesk(t)
	d.join(1)
	d.topic.Partitions, d.at = 6, 2
	d.pass(2_000, d.beat(1))
	if a := d.ask(1, Beat{"g", id(1)}); len(a.Partitions) != 6 {
		t.Errorf("%d partitions are assigned, want 6", len(a.Partitions))
	}
}

// A group without members is forgotten after the retention by append time, and not while it has members.
func TestOffsetsExpire(t *testing.T) {
	d := newDesk(t)
	d.join(1)
	d.pass(2_000_000, d.beat(1))
	d.wantMembers("1 ")
	d.apply((&Commit{Group: "g", Member: id(1), Generation: d.c.state.Group("g").Generation, Offsets: []TopicOffset{{TP{"t", 0}, topicT.ID, 5, 0}}}).Encode())
	d.apply((&Leave{Group: "g", Member: id(1)}).Encode())
	d.pass(900_000, nil)
	if g, _ := d.c.Query(Describe{"g"}).(*Group); g == nil || g.Offsets[TP{"t", 0}].Offset != 5 {
		t.Fatalf("the group is gone too early: %+v", g)
	}
	d.pass(200_000, nil)
	if g, _ := d.c.Query(Describe{"g"}).(*Group); g != nil {
		t.Fatalf("the group is still there: %+v", g)
	}
	if list := d.c.Query(List{}).([]Summary); len(list) != 0 {
		t.Fatalf("%v", list)
	}
	// A leader whose clock ran ahead proposes it too early: where it is applied it is judged again.
	d.join(1)
	d.apply((&Leave{Group: "g", Member: id(1)}).Encode())
	d.apply((&forget{group: "g", retentionMs: 1000_000}).encode())
	if d.c.state.Group("g") == nil {
		t.Error("a forget that came too early had an effect")
	}
}
