package group

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// bench applies commands to a state as a log would, and checks after each what must always hold.
type bench struct {
	t     *testing.T
	s     *State
	index uint64
	time  int64 // ms
}

func newBench(t *testing.T) *bench { return &bench{t: t, s: NewState(), time: 1_000_000} }

func (b *bench) apply(command []byte) Result {
	b.t.Helper()
	b.index++
	b.time++
	x, err := DecodeResult(b.s.Apply(b.index, b.time, command))
	if err != nil {
		b.t.Fatal(err)
	}
	b.check()
	return x
}

// check holds every group against the invariants of the package comment.
func (b *bench) check() {
	b.t.Helper()
	for _, g := range b.s.groups {
		holder := map[TP]ID{}
		for _, m := range g.Members {
			for _, h := range m.Held {
				if other, twice := holder[h.TP]; twice {
					b.t.Fatalf("group %s: %v is held by %x and %x", g.Name, h.TP, other[:1], m.ID[:1])
				}
				holder[h.TP] = m.ID
				if h.Since > g.Generation {
					b.t.Fatalf("group %s: grant of %v since %d, the group is in %d", g.Name, h.TP, h.Since, g.Generation)
				}
			}
			if m.Generation > g.Generation || m.Acked > m.Generation {
				b.t.Fatalf("group %s: member %x acked %d of %d, the group is in %d", g.Name, m.ID[:1], m.Acked, m.Generation, g.Generation)
			}
			if !slices.IsSortedFunc(m.Held, func(a, b Grant) int { return compareTP(a.TP, b.TP) }) {
				b.t.Fatalf("group %s: held out of order: %v", g.Name, m.Held)
			}
		}
	}
	again := NewState()
	if err := again.Restore(b.s.Snapshot()); err != nil || again.words() != b.s.words() {
		b.t.Fatalf("a snapshot does not give the same state: %v\n%s\n%s", err, again.words(), b.s.words())
	}
}

// words is everything of a state, for comparison.
func (s *State) words() string {
	out := fmt.Sprint(s.requests, s.results)
	for _, g := range s.groups {
		c := *g
		c.Members = nil
		out += fmt.Sprintf("\n%+v", c)
		for _, m := range g.Members {
			out += fmt.Sprintf("\n  %+v", *m)
		}
	}
	return out
}

func id(n byte) (m ID) {
	m[0] = n
	return m
}

var topicT = Topic{Name: "t", ID: id(200), Partitions: 4}

func (b *bench) join(member byte, list ...Topic) Result {
	b.t.Helper()
	if len(list) == 0 {
		list = []Topic{topicT}
	}
	return b.apply((&Join{Group: "g", Member: id(member), ClientID: fmt.Sprint("c", member), SessionMs: 10_000, PollMs: 60_000, Topics: list}).Encode())
}

// ack acknowledges everything that the member is told.
func (b *bench) ack(member byte) Result {
	b.t.Helper()
	m := b.s.Group("g").Member(id(member))
	c := Acknowledge{Group: "g", Member: m.ID, Generation: m.Generation}
	for _, x := range m.Told {
		c.Owned = append(c.Owned, x.TP)
	}
	return b.apply(c.Encode())
}

// settle lets everyone acknowledge until nothing moves any more.
func (b *bench) settle() {
	b.t.Helper()
	for range 3 {
		for _, m := range b.s.Group("g").Members {
			b.ack(m.ID[0])
		}
	}
}

func (b *bench) commit(member byte, generation int64, partition int32, offset int64) Result {
	b.t.Helper()
	return b.apply((&Commit{Group: "g", Member: id(member), Generation: generation, Offsets: []TopicOffset{{TP{"t", partition}, topicT.ID, offset, 0}}}).Encode())
}

func (b *bench) told(member byte) string {
	b.t.Helper()
	out := ""
	for _, x := range b.s.Group("g").Member(id(member)).Told {
		out += fmt.Sprintf("%s/%d ", x.Topic, x.Partition)
	}
	return out
}

func (b *bench) want(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (b *bench) refused(x Result, want Reason) {
	b.t.Helper()
	if x.Reason != want || x.Message == "" {
		b.t.Errorf("reason %q (%s), want %q", x.Reason, x.Message, want)
	}
}

// A partition goes to its new owner only after the old one has acknowledged its loss.
func TestHandOverAfterAcknowledge(t *testing.T) {
	b := newBench(t)
	b.join(1)
	b.want("alone", b.told(1), "t/0 t/1 t/2 t/3 ")
	b.ack(1)
	b.join(2)
	b.want("first, told to give two up", b.told(1), "t/0 t/1 ")
	b.want("second, before the acknowledgement", b.told(2), "")
	if n := b.s.Group("g").Member(id(2)).Waiting; n != 2 {
		t.Errorf("the second waits for %d partitions, want 2", n)
	}
	b.ack(1)
	b.want("second, after it", b.told(2), "t/2 t/3 ")
	b.want("state", b.s.Group("g").State(), StateRebalancing)
	b.ack(1)
	b.ack(2)
	b.want("state", b.s.Group("g").State(), StateStable)
}

// An expired or leaving member holds nothing back, and neither can commit any more.
func TestHandOverAfterEnd(t *testing.T) {
	for _, how := range []string{"leave", "expire"} {
		b := newBench(t)
		b.join(1)
		b.join(2)
		m := b.s.Group("g").Member(id(1))
		generation := m.Generation
		if how == "leave" {
			b.apply((&Leave{Group: "g", Member: m.ID}).Encode())
		} else {
			b.apply((&expire{group: "g", member: m.ID, instance: m.Instance + 1}).encode())
			if b.s.Group("g").Member(id(1)) == nil {
				t.Fatal("the expiry of another instance ended this one")
			}
			b.apply((&expire{group: "g", member: m.ID, instance: m.Instance}).encode())
		}
		b.want(how, b.told(2), "t/0 t/1 t/2 t/3 ")
		b.refused(b.commit(1, generation, 0, 5), ReasonUnknownMember)
		b.refused(b.apply((&Join{Group: "g", Member: id(1), SessionMs: 10_000, PollMs: 60_000, Resume: true, Topics: []Topic{topicT}}).Encode()), ReasonUnknownMember)
	}
}

func (b *bench) joinStatic(member byte, instance string) Result {
	b.t.Helper()
	return b.apply((&Join{Group: "g", Member: id(member), SessionMs: 10_000, PollMs: 60_000, Topics: []Topic{topicT}, InstanceID: instance}).Encode())
}

// Who joins with the instance id of a member takes its place: the same partitions, nobody else is told anything, and the one before is
// fenced, by name, whatever it tries.
func TestStaticMemberTakesItsPlace(t *testing.T) {
	b := newBench(t)
	b.joinStatic(1, "left")
	b.join(2)
	b.settle()
	b.want("the static one", b.told(1), "t/0 t/1 ")
	g := b.s.Group("g")
	old, others := g.Member(id(1)).Generation, g.Member(id(2)).Generation
	if x := b.commit(1, old, 0, 5); x.Reason != ReasonNone {
		t.Fatal(x)
	}
	b.joinStatic(3, "left")
	b.want("its successor", b.told(3), "t/0 t/1 ")
	if len(g.Members) != 2 || g.Member(id(2)).Generation != others {
		t.Errorf("%d members, and the other one was told generation %d after %d", len(g.Members), g.Member(id(2)).Generation, others)
	}
	b.refused(b.commit(1, old, 0, 9), ReasonFencedInstance)
	b.refused(b.apply((&Acknowledge{Group: "g", Member: id(1), Generation: old}).Encode()), ReasonFencedInstance)
	b.refused(b.apply((&Join{Group: "g", Member: id(1), SessionMs: 10_000, PollMs: 60_000, Resume: true, Topics: []Topic{topicT}, InstanceID: "left"}).Encode()), ReasonFencedInstance)
	b.refused(b.joinStatic(1, "left"), ReasonFencedInstance)
	b.apply((&Leave{Group: "g", Member: id(1)}).Encode())
	b.want("after its predecessor left", b.told(3), "t/0 t/1 ")
	if o := g.Offsets[TP{"t", 0}].Offset; o != 5 {
		t.Errorf("committed %d, want what the predecessor committed before: 5", o)
	}
	if x := b.commit(3, g.Member(id(3)).Generation, 0, 6); x.Reason != ReasonNone {
		t.Errorf("a commit of the successor: %v", x)
	}
	b.refused(b.apply((&Join{Group: "g", Member: id(3), SessionMs: 10_000, PollMs: 60_000, Topics: []Topic{topicT}, InstanceID: "right"}).Encode()), ReasonInvalid)
}

// What was withdrawn from a static member and not given up yet is free when it is replaced; a full group still lets it be replaced.
func TestStaticMemberGivesUpWhatWasWithdrawn(t *testing.T) {
	b := newBench(t)
	b.joinStatic(1, "left")
	b.ack(1)
	b.join(2)
	b.want("before", b.told(2), "")
	b.joinStatic(3, "left")
	b.want("the other one", b.told(2), "t/2 t/3 ")
	b.want("the successor", b.told(3), "t/0 t/1 ")

	full := newBench(t)
	full.joinStatic(1, "left")
	g := full.s.Group("g")
	for i := range MembersMax - 1 {
		g.Members = append(g.Members, &Member{ID: ID{255, byte(i >> 8), byte(i)}})
	}
	full.refused(full.joinStatic(2, "right"), ReasonLimit)
	if x := full.joinStatic(3, "left"); x.Reason != ReasonNone {
		t.Error(x)
	}
}

// A snapshot of before static members is read.
func TestSnapshotVersion1(t *testing.T) {
	b := newBench(t)
	b.join(1)
	old := &writer{}
	old.U8(1)
	old.Count(1)
	g, m := b.s.groups[0], b.s.groups[0].Members[0]
	old.Str(g.Name)
	old.I64(g.Generation)
	old.I64(g.EmptySince)
	old.topics(g.Topics)
	old.Count(1)
	old.ID(m.ID)
	old.U64(m.Instance)
	old.Str(m.ClientID)
	old.Count(1)
	old.Str("t")
	old.U32(m.SessionMs)
	old.U32(m.PollMs)
	old.I64(m.Generation)
	old.I64(m.Acked)
	old.grants(m.Held)
	old.Count(len(m.Target))
	for _, tp := range m.Target {
		old.tp(tp)
	}
	old.grants(m.Told)
	old.U32(uint32(m.Waiting))
	old.Count(0)
	old.Count(0)
	s := NewState()
	if err := s.Restore(old.Data()); err != nil || s.words() != b.s.words() {
		t.Fatalf("%v\n%s\n%s", err, s.words(), b.s.words())
	}
}

// A committed offset keeps the leader epoch that came with it, and a member is told it; without epochs a commit and a snapshot have the
// bytes that builds write which know of none.
func TestCommitEpochs(t *testing.T) {
	b := newBench(t)
	b.join(1)
	generation := b.s.Group("g").Member(id(1)).Generation
	commit := func(offset int64, epoch int32) Commit {
		return Commit{RequestID: ID{byte(offset)}, Group: "g", Member: id(1), Generation: generation, Offsets: []TopicOffset{{TP{"t", 3}, topicT.ID, offset, epoch}}}
	}
	for _, x := range []struct {
		offset         int64
		epoch          int32
		kind, snapshot uint8
		kept           Offset
	}{
		{5, 0, kindCommit, snapshotFirst, Offset{Offset: 5}},
		{7, 4, kindCommitEpochs, snapshotEpochs, Offset{Offset: 7, Epoch: 4}},
		{6, 3, kindCommitEpochs, snapshotEpochs, Offset{Offset: 7, Epoch: 4}}, // late: it has no effect
		{8, 0, kindCommit, snapshotFirst, Offset{Offset: 8}},
	} {
		c := commit(x.offset, x.epoch)
		command := c.Encode()
		if command[1] != x.kind || !isCommit(command) {
			t.Errorf("offset %d of epoch %d is a command of kind %d, want %d", x.offset, x.epoch, command[1], x.kind)
		}
		if r := b.apply(command); r.Reason != ReasonNone {
			t.Fatal(r)
		}
		got := b.s.Group("g").Offsets[TP{"t", 3}]
		if got.At = 0; got != x.kept {
			t.Errorf("after %d of epoch %d: %+v, want %+v", x.offset, x.epoch, got, x.kept)
		}
		again := NewState()
		snapshot := b.s.Snapshot()
		if err := again.Restore(snapshot); err != nil || snapshot[0] != x.snapshot || again.Group("g").Offsets[TP{"t", 3}].Epoch != x.kept.Epoch {
			t.Errorf("snapshot of version %d, want %d: %v", snapshot[0], x.snapshot, err)
		}
	}
	bad := commit(9, -1)
	b.refused(b.apply(bad.Encode()), ReasonInvalid)
}

// A commit never lowers an offset, but for one of a higher leader epoch: on one log epochs only grow with offsets, so that the log has
// lost the records before the old offset, and the member reads what is there instead.
func TestCommitAfterTruncation(t *testing.T) {
	b := newBench(t)
	b.join(1)
	generation := b.s.Group("g").Member(id(1)).Generation
	for _, x := range []struct {
		what   string
		offset int64
		epoch  int32
		kept   Offset
	}{
		{"before the log lost its end", 200, 3, Offset{Offset: 200, Epoch: 3}},
		{"late", 190, 3, Offset{Offset: 200, Epoch: 3}},
		{"late, of an older leader", 195, 2, Offset{Offset: 200, Epoch: 3}},
		{"of a client that knows of no epochs", 150, 0, Offset{Offset: 200, Epoch: 3}},
		{"of the new log", 160, 5, Offset{Offset: 160, Epoch: 5}},
		{"the same again", 160, 5, Offset{Offset: 160, Epoch: 5}},
		{"late, of the new log", 155, 5, Offset{Offset: 160, Epoch: 5}},
		{"further", 170, 5, Offset{Offset: 170, Epoch: 5}},
		{"a newer leader on the same log", 180, 6, Offset{Offset: 180, Epoch: 6}},
		{"further, without an epoch", 185, 0, Offset{Offset: 185}},
		{"lower than one without an epoch", 180, 9, Offset{Offset: 185}},
	} {
		c := Commit{Group: "g", Member: id(1), Generation: generation, Offsets: []TopicOffset{{TP{"t", 3}, topicT.ID, x.offset, x.epoch}}}
		if r := b.apply(c.Encode()); r.Reason != ReasonNone {
			t.Fatal(r)
		}
		got := b.s.Group("g").Offsets[TP{"t", 3}]
		if got.At = 0; got != x.kept {
			t.Errorf("%s: after %d of epoch %d: %+v, want %+v", x.what, x.offset, x.epoch, got, x.kept)
		}
	}
}

// Commits are fenced by what their member holds and since when; those of a member that is giving a partition up still count.
func TestCommitFencing(t *testing.T) {
	b := newBench(t)
	b.join(1)
	old := b.s.Group("g").Member(id(1)).Generation
	b.ack(1)
	b.join(2)
	if x := b.commit(1, old, 3, 7); x.Reason != ReasonNone {
		t.Errorf("a commit before giving up: %v", x)
	}
	b.refused(b.commit(2, b.s.Group("g").Generation, 3, 9), ReasonStaleGeneration)
	b.ack(1)
	b.refused(b.commit(1, old, 3, 8), ReasonStaleGeneration)
	if x := b.commit(2, b.s.Group("g").Generation, 3, 9); x.Reason != ReasonNone {
		t.Errorf("a commit of the new owner: %v", x)
	}
	// The partition comes back: what the first had sent under its old generation stays out.
	b.ack(2)
	b.apply((&Leave{Group: "g", Member: id(2)}).Encode())
	b.refused(b.commit(1, old, 3, 8), ReasonStaleGeneration)
	b.refused(b.commit(1, b.s.Group("g").Generation+1, 3, 10), ReasonInvalid)
	if o := b.s.Group("g").Offsets[TP{"t", 3}].Offset; o != 9 {
		t.Errorf("committed %d, want 9", o)
	}
}

// A commit of no higher leader epoch never lowers an offset: a retry that comes late changes nothing. A seek does, in an empty group only.
func TestCommitNeverRegresses(t *testing.T) {
	b := newBench(t)
	b.join(1)
	generation := b.s.Group("g").Generation
	b.commit(1, generation, 0, 20)
	if x := b.commit(1, generation, 0, 10); x.Reason != ReasonNone {
		t.Errorf("a late retry: %v", x)
	}
	if o := b.s.Group("g").Offsets[TP{"t", 0}].Offset; o != 20 {
		t.Errorf("committed %d, want 20", o)
	}
	seek := &Seek{RequestID: id(9), Group: "g", Topics: []Topic{topicT}, Offsets: []TopicOffset{{TP{"t", 0}, topicT.ID, 3, 0}}}
	b.refused(b.apply(seek.Encode()), ReasonGroupNotEmpty)
	b.apply((&Leave{Group: "g", Member: id(1)}).Encode())
	seek.RequestID = id(10)
	b.apply(seek.Encode())
	b.join(2)
	b.commit(2, b.s.Group("g").Generation, 0, 4)
	b.apply(seek.Encode()) // its retry
	if o := b.s.Group("g").Offsets[TP{"t", 0}].Offset; o != 4 {
		t.Errorf("committed %d, want 4: a seek that was retried had two effects", o)
	}
}

// What a member was granted after the generation that it acknowledges it has not given up.
func TestLateAcknowledgeKeepsNewGrants(t *testing.T) {
	b := newBench(t)
	b.join(1)
	b.join(2)
	m := b.s.Group("g").Member(id(2))
	before := m.Generation
	b.ack(1) // frees t/2 and t/3 for the second
	b.apply((&Acknowledge{Group: "g", Member: m.ID, Generation: before}).Encode())
	b.want("second", b.told(2), "t/2 t/3 ")
	b.refused(b.apply((&Acknowledge{Group: "g", Member: m.ID, Generation: m.Generation + 1}).Encode()), ReasonInvalid)
}

// Partitions that a topic gains are assigned; those of a deleted topic are withdrawn; a recreated one begins without offsets.
func TestTopicsChange(t *testing.T) {
	b := newBench(t)
	b.join(1)
	b.ack(1)
	b.commit(1, b.s.Group("g").Generation, 0, 20)
	more := topicT
	more.Partitions = 5
	b.apply((&topics{group: "g", topics: []Topic{more}}).encode())
	b.want("added", b.told(1), "t/0 t/1 t/2 t/3 t/4 ")
	gone := topicT
	gone.Partitions = 0
	b.apply((&topics{group: "g", topics: []Topic{gone}}).encode())
	b.want("deleted", b.told(1), "")
	anew := Topic{Name: "t", ID: id(201), Partitions: 1}
	b.ack(1)
	b.apply((&topics{group: "g", topics: []Topic{anew}}).encode())
	b.want("recreated", b.told(1), "t/0 ")
	if len(b.s.Group("g").Offsets) != 0 {
		t.Errorf("offsets of the old topic are left: %v", b.s.Group("g").Offsets)
	}
	b.refused(b.commit(1, b.s.Group("g").Generation, 0, 20), ReasonStaleGeneration)
}

// Bad commands are refused with a reason and change nothing.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	before := b.s.Snapshot()
	for _, x := range []struct {
		what    string
		command []byte
		want    Reason
	}{
		{"nothing", nil, ReasonInvalid},
		{"no name", (&Delete{}).Encode(), ReasonInvalid},
		{"no member id", (&Join{Group: "g", SessionMs: 10_000, PollMs: 10_000, Topics: []Topic{topicT}}).Encode(), ReasonInvalid},
		{"no topics", (&Join{Group: "g", Member: id(1), SessionMs: 10_000, PollMs: 10_000}).Encode(), ReasonInvalid},
		{"session", (&Join{Group: "g", Member: id(1), SessionMs: 10, PollMs: 10_000, Topics: []Topic{topicT}}).Encode(), ReasonInvalid},
		{"too many partitions", (&Join{Group: "g", Member: id(1), SessionMs: 10_000, PollMs: 10_000, Topics: []Topic{{Name: "t", Partitions: PartitionsMax + 1}}}).Encode(), ReasonLimit},
		{"commit", (&Commit{Group: "g", Member: id(1)}).Encode(), ReasonUnknownMember},
		{"acknowledge", (&Acknowledge{Group: "g", Member: id(1)}).Encode(), ReasonUnknownMember},
		{"delete", (&Delete{Group: "g"}).Encode(), ReasonGroupNotFound},
		{"seek nowhere", (&Seek{Group: "g", Topics: []Topic{topicT}, Offsets: []TopicOffset{{TP{"t", 9}, topicT.ID, 1, 0}}}).Encode(), ReasonInvalid},
		{"cut", (&Join{Group: "g", Member: id(1), SessionMs: 10_000, PollMs: 10_000, Topics: []Topic{topicT}}).Encode()[:60], ReasonInvalid},
	} {
		if got := b.apply(x.command); got.Reason != x.want {
			t.Errorf("%s: %q, want %q", x.what, got.Reason, x.want)
		}
		if x.command != nil && !bytes.Equal(b.s.groupsOnly(), mustRestore(t, before).groupsOnly()) {
			t.Errorf("%s: the state changed", x.what)
		}
	}
}

// A command of a kind or version that this build does not know, which only a newer one can have proposed, stops the replica: the brokers of
// that build carry it out. It changes nothing, and is no retry of anything either.
func TestUnknownCommandsAreFaults(t *testing.T) {
	known := (&Delete{RequestID: ID{7}, Group: "g"}).Encode()
	for _, x := range []struct {
		what          string
		kind, version uint8
		fault         bool
	}{
		{"what this build writes", kindDelete, commandVersion, false},
		{"the newest kind", kindCommitEpochs, commandVersion, false}, // without its fields: malformed, for every build
		{"no kind", 0, commandVersion, true},
		{"a newer kind", kindsEnd, commandVersion, true},
		{"a newer version", kindDelete, commandVersion + 1, true},
		{"an older version", kindDelete, commandVersion - 1, true},
	} {
		c := NewCoordinator(Options{})
		c.Apply(1, 1000, known)
		before := c.Snapshot()
		command := slices.Clone(known)
		command[0], command[1] = x.version, x.kind
		if _, err := DecodeResult(c.Apply(2, 1000, command)); err != nil {
			t.Error(err)
		}
		if err := c.Fault(); (err != nil) != x.fault {
			t.Errorf("%s: %v, want a fault: %t", x.what, err, x.fault)
		}
		if !bytes.Equal(c.Snapshot(), before) {
			t.Errorf("%s: the state changed", x.what)
		}
	}
}

func (s *State) groupsOnly() []byte {
	c := *s
	c.requests = nil
	return c.Snapshot()
}

func mustRestore(t *testing.T, b []byte) *State {
	t.Helper()
	s := NewState()
	if err := s.Restore(b); err != nil {
		t.Fatal(err)
	}
	return s
}

// A target is even within one partition, and a member that comes or goes moves no more than it must.
func TestAssignEvenAndSticky(t *testing.T) {
	b := newBench(t)
	list := []Topic{{Name: "a", ID: id(201), Partitions: 7}, {Name: "b", ID: id(202), Partitions: 5}}
	owner := func() map[TP]ID {
		m := map[TP]ID{}
		for _, x := range b.s.Group("g").Members {
			for _, tp := range x.Target {
				m[tp] = x.ID
			}
		}
		return m
	}
	moved := func(a, z map[TP]ID) (n int) {
		for tp, o := range a {
			if z[tp] != o {
				n++
			}
		}
		return n
	}
	spread := func() (lo, hi int) {
		lo = PartitionsMax
		for _, x := range b.s.Group("g").Members {
			lo, hi = min(lo, len(x.Target)), max(hi, len(x.Target))
		}
		return lo, hi
	}
	for n := byte(1); n <= 5; n++ {
		before := map[TP]ID{}
		if n > 1 {
			before = owner()
		}
		b.join(n, list...)
		b.settle()
		if lo, hi := spread(); hi-lo > 1 {
			t.Errorf("%d members: between %d and %d partitions", n, lo, hi)
		}
		if got, most := moved(before, owner()), (12+int(n)-1)/int(n); n > 1 && got > most {
			t.Errorf("member %d came and %d partitions moved, at most %d need to", n, got, most)
		}
	}
	before := owner()
	had := len(b.s.Group("g").Member(id(3)).Target)
	b.apply((&Leave{Group: "g", Member: id(3)}).Encode())
	if got := moved(before, owner()); got != had {
		t.Errorf("a member with %d partitions left and %d moved", had, got)
	}
}

// Subscriptions differ: nobody gets a topic that it did not ask for, and everything somebody asked for is assigned.
func TestAssignSubscriptions(t *testing.T) {
	b := newBench(t)
	x, y := Topic{Name: "x", ID: id(201), Partitions: 4}, Topic{Name: "y", ID: id(202), Partitions: 2}
	b.join(1, x)
	b.join(2, x, y)
	b.ack(1)
	b.want("only x", b.told(1), "x/0 x/1 x/2 ")
	b.want("both", b.told(2), "x/3 y/0 y/1 ")
}

// Random commands of many members: the invariants of check hold after each, the same log gives the same bytes, and once everyone has
// acknowledged, everything is assigned.
func TestRandomHistory(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for n := range uint64(5) {
		a, z := newBench(t), newBench(t)
		rng := rand.New(rand.NewPCG(seed, n))
		for range 300 {
			cmd := randomCommand(rng, a.s)
			if x, y := a.apply(cmd), z.apply(cmd); x != y {
				t.Fatalf("seed %d: %v and %v", seed, x, y)
			}
		}
		if !bytes.Equal(a.s.Snapshot(), z.s.Snapshot()) {
			t.Fatalf("seed %d: the same log gave different states", seed)
		}
		g := a.s.Group("g")
		for range 10 {
			for _, m := range g.Members {
				a.ack(m.ID[0])
			}
		}
		if len(g.Members) > 0 && g.State() != StateStable {
			t.Fatalf("seed %d: everyone acknowledged and the group is %s", seed, g.State())
		}
	}
}

func randomCommand(rng *rand.Rand, s *State) []byte {
	member := id(byte(1 + rng.IntN(5)))
	g := s.Group("g")
	var m *Member
	generation := int64(rng.IntN(30))
	if g != nil {
		if m = g.Member(member); m != nil && rng.IntN(4) > 0 {
			generation = m.Generation - int64(rng.IntN(2))
		}
	}
	switch rng.IntN(10) {
	case 0, 1, 2:
		list := []Topic{topicT}
		if rng.IntN(2) == 0 {
			list = append(list, Topic{Name: "u", ID: id(201), Partitions: 3})
		}
		c := Join{Group: "g", Member: member, SessionMs: 10_000, PollMs: 10_000, Resume: rng.IntN(3) == 0, Topics: list}
		if m != nil {
			c.InstanceID = m.InstanceID
		} else if n := rng.IntN(4); n < 2 {
			c.InstanceID = fmt.Sprint("i", n)
		}
		return c.Encode()
	case 3:
		return (&Leave{Group: "g", Member: member}).Encode()
	case 4:
		return (&topics{group: "g", topics: []Topic{{Name: "t", ID: id(byte(200 + rng.IntN(2))), Partitions: int32(rng.IntN(6))}}}).encode()
	case 5, 6:
		return (&Commit{Group: "g", Member: member, Generation: generation, Offsets: []TopicOffset{{TP{"t", int32(rng.IntN(5))}, topicT.ID, rng.Int64N(100), 0}}}).Encode()
	}
	c := Acknowledge{Group: "g", Member: member, Generation: generation}
	if m != nil {
		for _, x := range m.Held {
			if rng.IntN(3) > 0 {
				c.Owned = append(c.Owned, x.TP)
			}
		}
	}
	return c.Encode()
}
