package broker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"lograft/broker/cluster"
	"lograft/client"
)

// A broker is away once the metadata group's leader has not reached it for so long, and here as soon as it is reached; who leads no more
// forgets what it saw, and begins to count anew.
func TestAway(t *testing.T) {
	s := cluster.NewState(cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: cluster.ID{1}}, {NodeID: 2, DirID: cluster.ID{2}}}))
	index := uint64(1)
	apply := func(command []byte) {
		t.Helper()
		index++
		if x, err := cluster.DecodeResult(s.Apply(index, 0, command)); err != nil || x.Reason != cluster.ReasonNone {
			t.Fatalf("%+v, %v", x, err)
		}
	}
	id := func() cluster.ID { return cluster.ID{9, byte(index)} }
	for node := uint64(1); node <= 2; node++ {
		apply(cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: id(), NodeID: node, DirID: cluster.ID{byte(node)}, Version: cluster.SayKnown("1", cluster.CommandsKnown)}))
	}
	apply(cluster.EncodeRaiseCommands(cluster.RaiseCommands{RequestID: id(), To: cluster.CommandsKnown}))
	a, start := absent{}, time.Unix(1000, 0)
	for i, c := range []struct {
		after   time.Duration
		leads   bool
		up      bool
		nodes   []uint64
		changed bool
	}{
		{0, true, false, nil, false},
		{9 * time.Second, true, false, nil, false},
		{9 * time.Second, false, false, nil, false}, // another one leads
		{11 * time.Second, true, false, nil, false},
		{20 * time.Second, true, true, nil, false},
		{21 * time.Second, true, false, nil, false},
		{31 * time.Second, true, false, []uint64{2}, true},
		{32 * time.Second, true, false, []uint64{2}, false},
		{33 * time.Second, true, true, nil, true},
		{34 * time.Second, true, true, nil, false},
	} {
		nodes, changed := a.away(s.View(), c.leads, func(node uint64) bool { return node == 1 || c.up }, start.Add(c.after), 10*time.Second)
		if !slices.Equal(nodes, c.nodes) || changed != c.changed {
			t.Fatalf("step %d: away %v, changed %v: want %v, %v", i, nodes, changed, c.nodes, c.changed)
		}
		if changed {
			apply(cluster.EncodeSetAway(cluster.SetAway{RequestID: id(), Nodes: nodes}))
		}
	}
}

// Four brokers in three racks: a topic with three replicas has one in each; when one of the two that share a rack is stopped and counts as
// away, new partitions go to the other one, and when it is back it is here again.
func TestBrokersInRacks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	racks := []string{"a", "b", "c", "c"}
	c := startBrokers(t, 4, func(o *Options) { o.Rack = racks[o.NodeID-1] })
	k := c.client()
	wait := func(what string, is func(client.Broker) bool) {
		t.Helper()
		for {
			d, err := k.DescribeCluster(ctx)
			if err == nil && len(d.Brokers) == 4 && !slices.ContainsFunc(d.Brokers, func(b client.Broker) bool { return !is(b) }) {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("waiting until %s: %+v, %v", what, d.Brokers, err)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	create := func(name string) (on [5]int) {
		t.Helper()
		topic, err := k.CreateTopic(ctx, client.TopicSpec{Name: name, Partitions: 8, ReplicationFactor: 3})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range topic.Partitions {
			used := map[string]bool{}
			for _, n := range p.Replicas {
				on[n]++
				used[racks[n-1]] = true
			}
			if len(used) != 3 {
				t.Errorf("%s/%d is on nodes %v: racks %v", name, p.Number, p.Replicas, racks)
			}
		}
		return on
	}
	// A broker that started long after the first one may have been away for a moment.
	wait("racks are known and all are here", func(b client.Broker) bool { return b.Rack == racks[b.Node-1] && !b.Away })
	if on := create("first"); on[3] != 4 || on[4] != 4 {
		t.Errorf("replicas by node: %v, want 4 on nodes 3 and 4", fmt.Sprint(on[1:]))
	}
	c.end(3)
	wait("node 4 is away", func(b client.Broker) bool { return b.Away == (b.Node == 4) })
	if on := create("second"); on[4] != 0 {
		t.Errorf("node 4 is away and got %d replicas", on[4])
	}
	c.start(3)
	wait("node 4 is back", func(b client.Broker) bool { return !b.Away })
}
