package broker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"lograft/client"
)

// readGroup polls a member until it has given n records, and returns their values.
func readGroup(ctx context.Context, t *testing.T, g *client.GroupConsumer, n int) (values []string) {
	t.Helper()
	for len(values) < n {
		b, _, _, err := g.Poll(ctx)
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(values), n, err)
		}
		for i := range b.Records {
			values = append(values, string(b.Records[i].Value))
		}
	}
	return values
}

// pollOn keeps a member polling until ctx ends, as a program does that waits for records.
func pollOn(ctx context.Context, g *client.GroupConsumer) {
	for ctx.Err() == nil {
		_, _, _, _ = g.Poll(ctx)
	}
}

// Five brokers with real gRPC, group state on three of them and partitions on one each: a member reads and commits, another one gets its
// share, both leave; whoever is asked describes the group, its lag is true, and all of it is there after a restart of everything.
func TestGroupFiveBrokers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := startBrokers(t, 5)
	k := c.client()
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 3, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	for p := range 3 {
		produceTo(ctx, t, k, int32(p), 20)
	}
	a, err := k.NewGroupConsumer(client.GroupOptions{Group: "g", Topics: []string{"t"}, ClientID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	got := readGroup(ctx, t, a, 60)
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 60 {
		t.Fatalf("%d of 60 records: %v", len(got), got)
	}
	b, err := k.NewGroupConsumer(client.GroupOptions{Group: "g", Topics: []string{"t"}, ClientID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	polling, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { pollOn(polling, a); ended <- struct{}{} }()
	go func() { pollOn(polling, b); ended <- struct{}{} }()
	shared := func(g *client.Group) bool {
		return g.State == "stable" && len(g.Members) == 2 && len(g.Members[0].Partitions) > 0 && len(g.Members[1].Partitions) > 0
	}
	describeUntil(ctx, t, k, shared)
	for p := range 3 {
		produceTo(ctx, t, k, int32(p), 5)
	}
	describeUntil(ctx, t, k, func(g *client.Group) bool { return lag(g) == 0 && committed(g) == 75 })
	stop()
	<-ended
	<-ended
	a.Close(ctx)
	b.Close(ctx)
	for p := range 3 {
		produceTo(ctx, t, k, int32(p), 1)
	}
	checkLag(ctx, t, k)
	for i := range c.options {
		c.end(i)
	}
	for i := range c.options {
		c.start(i)
	}
	checkLag(ctx, t, k)
	list, err := k.ListGroups(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "g" || list[0].State != "empty" {
		t.Errorf("groups %+v, %v", list, err)
	}
	if err := k.SeekGroup(ctx, "g", []client.GroupOffset{{Topic: "t", Partition: 1, Offset: 3}}); err != nil {
		t.Error(err)
	}
	describeUntil(ctx, t, k, func(g *client.Group) bool { return lag(g) == 1+(26-3)+1 })
	told, leftOut := 0.0, 0.0
	for _, o := range c.options { // of partitions of one replica some are on no broker that keeps the group's state
		s := scrape(t, o.HTTPListen)
		told += float64(len(s["lograft_group_lag_records"].GetMetric()))
		leftOut += s.value("lograft_group_partitions_left_out")
	}
	if told+leftOut != 3 {
		t.Errorf("the lag of %v partitions is told and %v are left out, of 3", told, leftOut)
	}
	if err := k.DeleteGroup(ctx, "g"); err != nil {
		t.Error(err)
	}
	if _, err := k.DescribeGroup(ctx, "g"); client.ReasonOf(err) != client.ReasonGroupNotFound {
		t.Errorf("the deleted group: %v", err)
	}
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "__mine"}); client.ReasonOf(err) != client.ReasonInvalid {
		t.Errorf("a topic with an internal name: %v", err)
	}
	if err := k.DeleteTopic(ctx, "__groups"); client.ReasonOf(err) != client.ReasonInvalid {
		t.Errorf("the internal topic was deleted: %v", err)
	}
}

// checkLag: nobody has read the last record of each partition, written a moment ago.
func checkLag(ctx context.Context, t *testing.T, k *client.Client) {
	t.Helper()
	describeUntil(ctx, t, k, func(g *client.Group) bool {
		for i := range g.Partitions {
			if p := &g.Partitions[i]; p.Lag != 1 || p.End != 26 || p.Committed != 25 || p.LagTimeKnown && (p.LagTime <= 0 || p.LagTime > time.Minute) {
				return false
			}
		}
		return g.State == "empty" && len(g.Partitions) == 3
	})
}

func describeUntil(ctx context.Context, t *testing.T, k *client.Client, done func(*client.Group) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		g, err := k.DescribeGroup(ctx, "g")
		if err == nil && done(&g) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the group does not become what it should: %+v, %v", g, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func lag(g *client.Group) (n int64) {
	for i := range g.Partitions {
		if g.Partitions[i].Lag < 0 {
			return -1
		}
		n += g.Partitions[i].Lag
	}
	return n
}

func committed(g *client.Group) (n int64) {
	for i := range g.Partitions {
		n += g.Partitions[i].Committed
	}
	return n
}

func produceTo(ctx context.Context, t *testing.T, k *client.Client, partition int32, n int) {
	t.Helper()
	p, err := k.NewProducer(client.DefaultProducerOptions())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := p.Produce(ctx, &client.Record{Topic: "t", Partition: partition, Value: fmt.Appendf(nil, "%d/%d", partition, i)}, func(r client.Result) {
			if r.Err != nil {
				t.Errorf("record %d/%d: %v", partition, i, r.Err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}
