package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

// goneLines are count records of the test, whose values say where they come from.
func goneLines(what string, count int) []Record {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "%s %d\n", what, i)
	}
	return KeyedLines(b.String(), 4)
}

// burn ends brokers and takes their data directories away for good.
func burn(t *testing.T, nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		must(t, n.Kill())
		must(t, os.Rename(n.DataDir, n.DataDir+".gone"))
		must(t, os.MkdirAll(n.DataDir, 0o755))
	}
}

// says waits until a broker's log contains the words.
func says(t *testing.T, ctx context.Context, n *Node, words string) {
	t.Helper()
	if err := Until(ctx, func() (bool, error) {
		b, err := os.ReadFile(n.LogFile)
		return strings.Contains(string(b), words), err
	}); err != nil {
		t.Fatalf("node %d never says %q: %v", n.ID, words, err)
	}
}

func awaitHealthy(t *testing.T, ctx context.Context, c *Cluster) {
	t.Helper()
	last := ""
	if err := Until(ctx, func() (bool, error) {
		r, err := c.Run(ctx, nil, "broker", "cluster", "health")
		last = r.Stdout + r.Stderr
		return err == nil, nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, last)
	}
}

// refusedOld starts a broker on the directory that was given up: nobody listens to it. Then the new one is put back.
func refusedOld(t *testing.T, ctx context.Context, n *Node) {
	t.Helper()
	must(t, n.Kill())
	must(t, os.Rename(n.DataDir, n.DataDir+".new"))
	must(t, os.Rename(n.DataDir+".gone", n.DataDir))
	must(t, os.Truncate(n.LogFile, 0))
	must(t, n.Start())
	says(t, ctx, n, "is registered with data directory")
	must(t, n.Kill())
	must(t, os.RemoveAll(n.DataDir))
	must(t, os.Rename(n.DataDir+".new", n.DataDir))
	must(t, n.Start())
}

// Two of three brokers are gone for good: neither the partitions nor the metadata group can elect anybody. The operator is shown what is lost,
// accepts it, and the third broker goes on alone, with everything that was acknowledged by all; empty brokers take the places of the lost
// ones, and an old directory that turns up is refused.
func TestMajorityGone(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	run(t, ctx, c, "", "broker", "topic", "create", "t", "--partitions", "2", "--replication-factor", "3")
	first := goneLines("before", 300)
	acks := produceAll(t, ctx, c, "t", first)
	must(t, CheckCopy(first, acks, consumeAll(t, ctx, c, "t", 1))) // what node 1 does not hold would be lost with the others
	burn(t, c.Node(2), c.Node(3))
	refused := func(want string, args ...string) {
		t.Helper()
		r, err := c.Run(ctx, nil, "broker", append([]string{"cluster", "recover"}, args...)...)
		if err == nil || !strings.Contains(r.Stdout+r.Stderr, want) {
			t.Fatalf("recover %v: %v, want %q\n%s%s", args, err, want, r.Stdout, r.Stderr)
		}
	}
	refused("answers at", "--gone", "1,2,3")
	refused("node 3 was not asked", "--gone", "2")
	refused("--yes", "--gone", "2,3", "--accept-loss")
	plan := run(t, ctx, c, "", "broker", "cluster", "recover", "--gone", "2,3")
	for _, want := range []string{"metadata group", "t/0", "t/1"} {
		if !strings.Contains(plan.Stdout, want) || !strings.Contains(plan.Stderr, "nothing was changed") {
			t.Fatalf("the plan lacks %s:\n%s%s", want, plan.Stdout, plan.Stderr)
		}
	}
	done := run(t, ctx, c, "", "broker", "cluster", "recover", "--gone", "2,3", "--accept-loss", "--yes")
	if !strings.Contains(done.Stderr, "metadata group goes on") || !strings.Contains(done.Stderr, "t/1 goes on") {
		t.Fatalf("recover: %s%s", done.Stdout, done.Stderr)
	}
	says(t, ctx, c.Node(1), "StorageService/Recover") // the audit log
	says(t, ctx, c.Node(1), "MembershipService/ForfeitBrokers")
	second := goneLines("after", 300)
	acks = append(acks, produceAll(t, ctx, c, "t", second)...)
	all := append(first, second...)
	must(t, CheckCopy(all, acks, consumeAll(t, ctx, c, "t", 1)))
	must(t, c.Start(c.Node(2), c.Node(3)))
	awaitHealthy(t, ctx, c)
	for _, n := range c.Nodes() {
		must(t, CheckCopy(all, acks, consumeAll(t, ctx, c, "t", n.ID)))
	}
	refusedOld(t, ctx, c.Node(2))
	awaitHealthy(t, ctx, c)
	must(t, CheckCopy(all, acks, consumeAll(t, ctx, c, "t", 2)))
	// A restart of everybody finds the configurations in the logs.
	must(t, c.Stop(ctx))
	must(t, c.Start())
	awaitHealthy(t, ctx, c)
	acks = append(acks, produceAll(t, ctx, c, "t", goneLines("again", 50))...)
	all = append(all, goneLines("again", 50)...)
	must(t, CheckCopy(all, acks, consumeAll(t, ctx, c, "t", 3)))
}

// Two of a partition's three brokers are gone for good, of five: the metadata has its majority and the partition has none. It goes on with
// the one replica that is left, and gets new ones on the other brokers.
func TestMembersMajorityOfAPartitionGone(t *testing.T) {
	longRun(t)
	ctx := testContext(t)
	c := startCluster(t, ctx, 5)
	run(t, ctx, c, "", "broker", "topic", "create", "t", "--partitions", "1", "--replication-factor", "3")
	run(t, ctx, c, "", "broker", "topic", "reassign", "t/0", "--replicas", "4,2,5", "-w")
	first := goneLines("before", 300)
	acks := produceAll(t, ctx, c, "t", first)
	must(t, CheckCopy(first, acks, consumeAll(t, ctx, c, "t", 5)))
	burn(t, c.Node(2), c.Node(4))
	plan := run(t, ctx, c, "", "broker", "cluster", "recover", "--gone", "2,4")
	if !strings.Contains(plan.Stdout, "t/0") || strings.Contains(plan.Stdout, "metadata group") || !strings.Contains(plan.Stdout, "[0, 300)") {
		t.Fatalf("the plan:\n%s%s", plan.Stdout, plan.Stderr)
	}
	run(t, ctx, c, "", "broker", "cluster", "recover", "--gone", "2,4", "--accept-loss", "--yes")
	second := goneLines("after", 300)
	acks = append(acks, produceAll(t, ctx, c, "t", second)...)
	all := append(first, second...)
	must(t, CheckCopy(all, acks, consumeAll(t, ctx, c, "t", 5)))
	for _, n := range c.Others(2, 4, 5) { // the new replicas are filled from the one that was left
		if err := Until(ctx, func() (bool, error) {
			r, err := c.Run(ctx, nil, "consume", "t", "-e", "-J", "--replica", fmt.Sprint(n.ID))
			if err != nil {
				return false, nil
			}
			got, err := ParseConsumed(r.Stdout)
			return err == nil && CheckCopy(all, acks, got) == nil, nil
		}); err != nil {
			t.Fatalf("node %d: %v", n.ID, err)
		}
	}
	must(t, c.Start(c.Node(2))) // an empty one takes its place, and the old directory is refused
	says(t, ctx, c.Node(2), "is registered")
	refusedOld(t, ctx, c.Node(2))
}
