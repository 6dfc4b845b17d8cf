package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// fleet is a cluster whose brokers run different builds: each applies the same log with its own state machine.
type fleet struct {
	t        *testing.T
	rng      *rand.Rand
	birth    *Birth
	machines map[uint64]*State
	index    uint64
}

func newFleet(t *testing.T, brokers int, known uint32) *fleet {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := &fleet{t: t, rng: rand.New(rand.NewPCG(seed, 1)), machines: map[uint64]*State{}}
	var members []Member
	for n := range brokers {
		members = append(members, Member{NodeID: uint64(n + 1), DirID: ID{1, byte(n + 1)}})
	}
	f.birth = ComputeBirth("fleet", members)
	for _, m := range members {
		f.machines[m.NodeID] = NewStateKnowing(f.birth, known)
	}
	return f
}

// log applies an entry everywhere; all must answer the same and be the same afterwards.
func (f *fleet) log(command []byte) Result {
	f.t.Helper()
	f.index++
	var first []byte
	for node := uint64(1); f.machines[node] != nil; node++ {
		m := f.machines[node]
		result := m.Apply(f.index, 0, command)
		if err := m.Fault(); err != nil {
			f.t.Fatalf("node %d: %v", node, err)
		}
		if first == nil {
			first = result
		}
		if node > 1 && !bytes.Equal(first, result) || node > 1 && !bytes.Equal(f.machines[1].Snapshot(), m.Snapshot()) {
			f.t.Fatalf("entry %d: node %d (knows %d) and node 1 (knows %d) differ: %q and %q", f.index, node, m.known, f.machines[1].known, result, first)
		}
	}
	x, err := DecodeResult(first)
	if err != nil {
		f.t.Fatal(err)
	}
	return x
}

func (f *fleet) request() ID { return ID{9, byte(f.index), byte(f.index >> 8), byte(f.index >> 16)} }

// start runs a node with a build on what the node kept, and lets it announce itself.
func (f *fleet) start(node uint64, known uint32) error {
	f.t.Helper()
	m := NewStateKnowing(f.birth, known)
	if err := m.Restore(f.machines[node].Snapshot()); err != nil {
		return err
	}
	f.machines[node] = m
	x := f.log(f.announcement(node))
	if x.Reason != ReasonNone {
		return errors.New(string(x.Reason))
	}
	return nil
}

func (f *fleet) announcement(node uint64) []byte {
	version := "0.1"
	if known := f.machines[node].known; known > commandsFirst { // the first builds said nothing
		version = SayKnown(version, known)
	}
	c := RegisterBroker{RequestID: f.request(), NodeID: node, DirID: ID{1, byte(node)}, ClientAddr: fmt.Sprintf("h:%d", node), Version: version}
	if ok, _, _ := f.machines[node].View().Allows(FeatureRacks); ok {
		c.Rack = fmt.Sprint("r", node%2)
	}
	return EncodeRegisterBroker(c)
}

// propose is what the broker on a node may put into the log, by its own build and metadata.
func (f *fleet) propose(node uint64) {
	f.t.Helper()
	m := f.machines[node]
	switch f.rng.IntN(6) {
	case 0:
		f.log(f.announcement(node))
	case 1:
		f.log(EncodeCreateTopic(CreateTopic{RequestID: f.request(), Seed: f.request(), Name: fmt.Sprintf("t%d", f.rng.IntN(5)), Partitions: 2, ReplicationFactor: 2}))
	case 2:
		q := Quota{Principal: "p", Requests: 1 + uint64(f.rng.IntN(2))}
		if ok, _, _ := m.View().Allows(FeatureConnectionQuotas); ok {
			q.Connections = 7
		}
		f.log(EncodePutQuota(PutQuota{RequestID: f.request(), Quota: q}))
	case 3:
		if ok, _, _ := m.View().Allows(FeatureRacks); ok {
			f.log(EncodeSetAway(SetAway{RequestID: f.request(), Nodes: []uint64{1 + uint64(f.rng.IntN(3))}}))
		}
	case 4:
		f.log(EncodeDeleteTopic(DeleteTopic{RequestID: f.request(), Name: fmt.Sprintf("t%d", f.rng.IntN(5))}))
	case 5:
		to := min(m.View().Raisable(), m.known)
		if to = min(to, m.View().Commands+1); to > m.View().Commands {
			f.log(EncodeRaiseCommands(RaiseCommands{RequestID: f.request(), To: to}))
		}
	}
}

// A cluster whose brokers are upgraded one after the other, and sometimes set back: whatever is proposed meanwhile, brokers of the old and
// the new build make the same of it; at the end the newest commands are active, and what is older is refused by name.
func TestUpgradeByOne(t *testing.T) {
	for range 15 {
		f := newFleet(t, 3, commandsFirst)
		for node := uint64(1); node <= 3; node++ {
			f.log(f.announcement(node))
		}
		for n := 0; n < 200; n++ {
			node := uint64(1 + f.rng.IntN(3))
			if f.rng.IntN(10) > 0 {
				f.propose(node)
				continue
			}
			active, known := f.machines[1].View().Commands, uint32(commandsFirst+f.rng.IntN(CommandsKnown))
			before := f.machines[node]
			err := f.start(node, known)
			if (known < active) != (err != nil) || err != nil && !errors.Is(err, ErrTooOld) {
				t.Fatalf("node %d starts with a build that knows %d while %d is active: %v", node, known, active, err)
			}
			if err != nil {
				f.machines[node] = before
			}
		}
		for node := uint64(1); node <= 3; node++ {
			if err := f.start(node, CommandsKnown); err != nil {
				t.Fatal(err)
			}
		}
		v := f.machines[1].View()
		if to := v.Raisable(); to != CommandsKnown {
			t.Fatalf("all know %d, and %d may be raised to", CommandsKnown, to)
		}
		f.log(EncodeRaiseCommands(RaiseCommands{RequestID: f.request(), To: CommandsKnown}))
		if got := f.machines[1].View().Commands; got != CommandsKnown {
			t.Fatalf("version %d is active, want %d", got, CommandsKnown)
		}
	}
}

// A version is active only once every broker with a directory has registered a build that knows it; whoever comes with less is refused
// from then on, and a broker that finds a version in its log that it does not know stops before it applies anything more.
func TestRaise(t *testing.T) {
	f := newFleet(t, 2, CommandsKnown)
	raise := func(to uint32) Result {
		return f.log(EncodeRaiseCommands(RaiseCommands{RequestID: f.request(), To: to}))
	}
	f.log(f.announcement(1))
	if x := raise(2); x.Reason != ReasonInvalid || f.machines[1].View().Commands != commandsFirst {
		t.Fatalf("node 2 has not registered: %+v", x)
	}
	if ok, soon, why := f.machines[1].View().Allows(FeatureStaticMembers); ok || !soon {
		t.Fatalf("%v, %v, %s", ok, soon, why)
	}
	old := RegisterBroker{RequestID: ID{1}, NodeID: 2, DirID: ID{1, 2}, Version: "0.0"}
	f.log(EncodeRegisterBroker(old))
	if ok, soon, why := f.machines[1].View().Allows(FeatureStaticMembers); ok || soon || why == "" {
		t.Fatalf("%v, %v, %s", ok, soon, why)
	}
	if x := raise(2); x.Reason != ReasonInvalid {
		t.Fatalf("node 2 knows 1: %+v", x)
	}
	f.log(f.announcement(2))
	if x := raise(2); x.Reason != ReasonNone || f.machines[1].View().Commands != 2 {
		t.Fatalf("%+v", x)
	}
	if x := raise(1); x.Reason != ReasonNone || f.machines[1].View().Commands != 2 {
		t.Fatalf("lowered: %+v", x)
	}
	if x := raise(CommandsKnown + 1); x.Reason != ReasonNotUpgraded {
		t.Fatalf("%+v", x)
	}
	old.RequestID = ID{2}
	if x := f.log(EncodeRegisterBroker(old)); x.Reason != ReasonTooOld {
		t.Fatalf("%+v", x)
	}
	for node := uint64(1); node <= 2; node++ {
		f.log(EncodeRegisterBroker(RegisterBroker{RequestID: ID{3, byte(node)}, NodeID: node, DirID: ID{1, byte(node)}, Version: SayKnown("9", CommandsKnown+1)}))
	}
	m := f.machines[1]
	m.Apply(f.index+1, 0, EncodeRaiseCommands(RaiseCommands{RequestID: ID{4}, To: CommandsKnown + 1}))
	if err := m.Fault(); !errors.Is(err, ErrTooOld) {
		t.Fatalf("%v", err)
	}
	if err := NewState(f.birth).Restore(m.Snapshot()); !errors.Is(err, ErrTooOld) {
		t.Fatalf("%v", err)
	}
}

// A directory that comes in the place of a lost one may be run by an older build: until its broker has registered, nothing is raised.
func TestNewDirectoryKnowsNothing(t *testing.T) {
	f := newFleet(t, 3, CommandsKnown)
	for node := uint64(1); node <= 3; node++ {
		f.log(f.announcement(node))
	}
	f.log(EncodeRaiseCommands(RaiseCommands{RequestID: f.request(), To: 2}))
	if x := f.log(EncodeJoinBroker(JoinBroker{RequestID: f.request(), NodeID: 3, DirID: ID{7}, OldDirID: ID{1, 3}, PeerAddr: "h:3"})); x.Reason != ReasonNone {
		t.Fatalf("%+v", x)
	}
	if node, known := f.machines[1].View().Oldest(); node != 3 || known != commandsFirst {
		t.Fatalf("node %d knows %d, want node 3 and %d", node, known, commandsFirst)
	}
	if v := f.machines[1].View().Commands; v != 2 {
		t.Fatalf("version %d is active, want 2", v)
	}
}

// Lost brokers of an older build don't keep their directories from being given up; one that stays does, and all answer as it.
func TestForfeitBesideOlderBuilds(t *testing.T) {
	f := newFleet(t, 3, CommandsKnown)
	f.machines[3] = NewStateKnowing(f.birth, commandsFirst)
	for node := uint64(1); node <= 3; node++ {
		f.log(f.announcement(node))
	}
	lost := func(node uint64) []byte {
		return EncodeForfeit(Forfeit{RequestID: f.request(), Lost: []LostDirectory{{NodeID: node, DirID: ID{1, byte(node)}}}})
	}
	if x := f.log(lost(2)); x.Reason == ReasonNone {
		t.Fatal("given up beside a broker that can't know it")
	}
	delete(f.machines, 3)
	if x := f.log(lost(3)); x.Reason != ReasonNone {
		t.Fatalf("the old one itself: %+v", x)
	}
}

// The text that carries what a build knows survives any version, and no version is taken for it.
func TestSayKnown(t *testing.T) {
	long := string(bytes.Repeat([]byte{'v'}, 2*addrBytesMax))
	for _, v := range []string{"", "1.2", "1 (commands 3)", long} {
		said := SayKnown(v, 4)
		if build, known := parseVersion(said); known != 4 || len(said) > addrBytesMax || len(v) < addrBytesMax/2 && build != v {
			t.Errorf("%q: %q, %d", v, build, known)
		}
	}
	for _, v := range []string{"", "1.2", "x (commands )", "x (commands 0)", "x (commands -1)", "x (commands 99999999999)"} {
		if build, known := parseVersion(v); known != commandsFirst || build != v {
			t.Errorf("%q: %q, %d", v, build, known)
		}
	}
}
