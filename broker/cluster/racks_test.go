package cluster

import (
	"fmt"
	"slices"
	"testing"
)

// racked is a fleet of one build whose brokers have racks.
type racked struct {
	*fleet
	racks map[uint64]string
}

// newRacked has brokers in these racks, in the order of their node ids, with the newest commands active.
func newRacked(t *testing.T, racks []string) *racked {
	t.Helper()
	f := &racked{newFleet(t, len(racks), CommandsKnown), map[uint64]string{}}
	f.machines = map[uint64]*State{1: f.machines[1]} // they would all do the same
	for i := range racks {
		f.register(uint64(i+1), "")
	}
	f.ok(EncodeRaiseCommands(RaiseCommands{RequestID: f.request(), To: CommandsKnown}))
	for i, r := range racks {
		f.register(uint64(i+1), r)
	}
	return f
}

func (f *racked) state() *State { return f.machines[1] }

func (f *racked) ok(command []byte) {
	f.t.Helper()
	if x := f.log(command); x.Reason != ReasonNone {
		f.t.Fatalf("%+v", x)
	}
}

func (f *racked) register(node uint64, rack string) {
	f.t.Helper()
	f.racks[node] = rack
	f.ok(EncodeRegisterBroker(RegisterBroker{RequestID: f.request(), NodeID: node, DirID: ID{1, byte(node)}, Version: SayKnown("1", CommandsKnown), Rack: rack}))
}

func (f *racked) create(name string, partitions, replication int) {
	f.t.Helper()
	f.ok(EncodeCreateTopic(CreateTopic{RequestID: f.request(), Seed: f.request(), Name: name, Partitions: int32(partitions), ReplicationFactor: int32(replication)}))
}

// arrive lets everything that is on the move arrive, and everything that starts then.
func (f *racked) arrive() {
	f.t.Helper()
	for range 1000 {
		v := f.state().View()
		stones := slices.Clone(v.tombstones)
		for _, s := range stones {
			f.ok(EncodeConfirmRemoved(ConfirmRemoved{RequestID: f.request(), DirID: s.dir, Groups: []ID{s.group}}))
		}
		if len(v.Moving()) == 0 && len(stones) == 0 {
			return
		}
		f.ok(EncodeSettled(SettledGroups{RequestID: f.request(), Groups: v.Moving()}))
	}
	f.t.Fatal("the moves come to no end")
}

func (f *racked) nodes(p *Partition) (nodes []uint64) {
	for _, id := range p.Voters {
		r, _ := p.Replica(id)
		nodes = append(nodes, r.NodeID)
	}
	return nodes
}

// checkRacks demands that no two replicas share a rack while another rack has none of the partition's and a broker that could take one,
// and that no broker that is away has a replica while another one could have it.
func (f *racked) checkRacks(when string) {
	f.t.Helper()
	v := f.state().View()
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			nodes := f.nodes(p)
			used := map[string]int{}
			away := 0
			for _, n := range nodes {
				b, _ := v.BrokerByID(n)
				used[rackOf(b)]++
				away += btoi(b.Away)
			}
			shared := len(used) < len(nodes)
			for _, b := range v.Brokers() {
				if b.Away || slices.Contains(nodes, b.NodeID) || !f.state().settledSeat(b.NodeID) {
					continue
				}
				if shared && used[rackOf(&b)] == 0 {
					f.t.Fatalf("%s: %s/%d is on nodes %v, two of them in one rack, and node %d's has none (racks %v)", when, t.Name, p.Number, nodes, b.NodeID, f.racks)
				}
				if away > 0 && when == "created" {
					f.t.Fatalf("%s: %s/%d is on nodes %v, %d of them away, and node %d is here", when, t.Name, p.Number, nodes, away, b.NodeID)
				}
			}
		}
	}
}

// spread is the difference between the brokers that hold most and least, and likewise of preferred leaders, of those that are here.
func (f *racked) spread() (replicas, leaders int) {
	loads := slices.DeleteFunc(f.state().loads(), func(l *load) bool { return l.broker.Away })
	diff := func(of func(*load) int) int {
		lo, hi := of(loads[0]), of(loads[0])
		for _, l := range loads {
			lo, hi = min(lo, of(l)), max(hi, of(l))
		}
		return hi - lo
	}
	return diff(func(l *load) int { return l.replicas }), diff(func(l *load) int { return l.leaders })
}

// In random clusters new partitions are spread over racks, away from brokers that are away; and where the racks are at least as many as
// replicas and as large as each other, or there are none, every broker holds as many replicas as every other, but for one.
func TestPlacementInRacks(t *testing.T) {
	for range 10 {
		f := newRacked(t, make([]string, 12))
		kind, brokers, racks := f.rng.IntN(3), 1+f.rng.IntN(12), 1+f.rng.IntN(5)
		even := kind != 2
		replication := 1 + f.rng.IntN(5)
		sizes := slices.DeleteFunc([]int{1, 2, 3, 4, 6, 12}, func(n int) bool { return n < replication })
		equal := sizes[f.rng.IntN(len(sizes))] // racks of one size, as many as replicas or more
		for node := 1; node <= 12; node++ {
			switch {
			case kind == 1:
				f.register(uint64(node), fmt.Sprint("r", node%equal))
			case kind == 2 && node <= brokers && f.rng.IntN(4) > 0:
				f.register(uint64(node), fmt.Sprint("r", f.rng.IntN(racks)))
			}
		}
		var away []uint64
		for node := uint64(1); kind == 2 && node <= 12; node++ {
			if f.rng.IntN(3) == 0 {
				away = append(away, node)
			}
		}
		f.ok(EncodeSetAway(SetAway{RequestID: f.request(), Nodes: away}))
		for i := range 4 {
			f.create(fmt.Sprint("t", i), 1+f.rng.IntN(30), replication)
			f.checkRacks("created")
			if replicas, _ := f.spread(); even && replicas > 1 {
				t.Fatalf("kind %d, %d replicas, racks %v: brokers differ by %d replicas", kind, replication, f.racks, replicas)
			}
		}
	}
}

// After brokers got racks, or other ones, came and went away, a rebalance spreads every partition over racks as far as brokers are here,
// evens out what the racks allow, and comes to an end; a decommission afterwards keeps to the racks as well.
func TestRebalanceKeepsRacks(t *testing.T) {
	for range 10 {
		f := newRacked(t, make([]string, 9))
		for i := range 3 {
			f.create(fmt.Sprint("t", i), 1+f.rng.IntN(20), 1+f.rng.IntN(4))
		}
		racks := 2 + f.rng.IntN(4)
		for node := uint64(1); node <= 9; node++ {
			f.register(node, fmt.Sprint("r", f.rng.IntN(racks)))
		}
		var away []uint64
		if f.rng.IntN(2) == 0 {
			away = append(away, uint64(1+f.rng.IntN(9)))
		}
		f.ok(EncodeSetAway(SetAway{RequestID: f.request(), Nodes: away}))
		f.ok(EncodeRebalance(f.request()))
		f.arrive()
		if f.state().View().Rebalancing {
			t.Fatal("the rebalance comes to no end")
		}
		f.checkRacks("rebalanced")
		leaving := uint64(1 + f.rng.IntN(9))
		if x := f.log(EncodeDecommission(Decommission{RequestID: f.request(), NodeID: leaving})); x.Reason != ReasonNone {
			continue
		}
		f.arrive()
		f.checkRacks("decommissioned")
		for _, topic := range f.state().View().Topics() {
			for i := range topic.Partitions {
				if nodes := f.nodes(&topic.Partitions[i]); slices.Contains(nodes, leaving) {
					t.Fatalf("%s/%d stays on node %d, which leaves", topic.Name, i, leaving)
				}
			}
		}
	}
}

// Without racks, and with racks of one size that are as many as the replicas, a rebalance of a lopsided cluster evens out to within one.
func TestRebalanceEvens(t *testing.T) {
	for _, racks := range [][]string{make([]string, 9), {"a", "b", "c", "a", "b", "c", "a", "b", "c"}} {
		f := newRacked(t, racks)
		f.ok(EncodeSetAway(SetAway{RequestID: f.request(), Nodes: []uint64{1, 5, 6, 9}}))
		f.create("t", 40, 3)
		f.ok(EncodeSetAway(SetAway{RequestID: f.request()}))
		f.ok(EncodeRebalance(f.request()))
		f.arrive()
		f.checkRacks("rebalanced")
		if replicas, leaders := f.spread(); replicas > 1 || leaders > 1 {
			t.Fatalf("racks %v: brokers differ by %d replicas and %d leaders", racks, replicas, leaders)
		}
	}
}

// A replica that has to leave waits for a broker that is here, and moves as soon as one is back.
func TestDecommissionWaitsForWhoIsAway(t *testing.T) {
	f := newRacked(t, []string{"a", "b", "c"})
	f.create("t", 1, 2)
	leaving := f.nodes(&f.state().View().Topics()[0].Partitions[0])[1]
	var other uint64
	for n := uint64(1); n <= 3; n++ {
		if !slices.Contains(f.nodes(&f.state().View().Topics()[0].Partitions[0]), n) {
			other = n
		}
	}
	f.ok(EncodeSetAway(SetAway{RequestID: f.request(), Nodes: []uint64{other}}))
	f.ok(EncodeDecommission(Decommission{RequestID: f.request(), NodeID: leaving}))
	f.arrive()
	if got := f.nodes(&f.state().View().Topics()[0].Partitions[0]); slices.Contains(got, other) {
		t.Fatalf("a replica went to node %d, which is away: %v", other, got)
	}
	f.register(other, f.racks[other]) // it is here again
	f.arrive()
	if got := f.nodes(&f.state().View().Topics()[0].Partitions[0]); !slices.Contains(got, other) || slices.Contains(got, leaving) {
		t.Fatalf("nodes %v: node %d leaves, node %d is back", got, leaving, other)
	}
}
