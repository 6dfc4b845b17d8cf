package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rot turns a bit in the header of the newest segment, in the footer of the one before and in a frame of that: nothing says any more how the newest
// one continues the log, which is refused.
func rot(t *testing.T, logs []string) {
	t.Helper()
	last, before := logs[len(logs)-1], logs[len(logs)-2]
	info, err := os.Stat(before)
	must(t, err)
	flipBit(t, last, 20)
	flipBit(t, before, info.Size()-20)
	flipBit(t, before, segmentHeadBytes+60)
}

// A topic of one replica whose log is refused: the broker comes up and serves everything else, and says which group it is and what to do. The
// operator is shown what is lost, accepts it, and the topic takes records again behind what is left.
func TestMembersRefusedLogOfOneReplica(t *testing.T) {
	longRun(t)
	ctx := testContext(t)
	c := startCluster(t, ctx, 1)
	n := c.Node(1)
	run(t, ctx, c, "", "broker", "topic", "create", "t", "--partitions", "1", "--replication-factor", "1", "-c", fmt.Sprintf("segment.bytes=%d", damageSegmentBytes))
	lines := strings.Split(generatedLogs()["plain"], "\n")[:damageRecords]
	sent := KeyedLines(strings.Join(lines, "\n")+"\n", logsKeys)
	acks := produceAll(t, ctx, c, "t", sent, "-z", "none", "--batch-bytes", "1024")
	logs := topicLogs(t, n)
	run(t, ctx, c, "", "broker", "topic", "create", "other", "--partitions", "1", "--replication-factor", "1")
	dir := filepath.Dir(logs[0])
	if r, err := c.Run(ctx, nil, "broker", "log", "recover", dir); err == nil || !strings.Contains(r.Stderr, "in use") {
		t.Fatalf("beside a running broker: %v %s", err, r.Stderr)
	}
	must(t, c.Stop(ctx))
	if r, err := c.Run(ctx, nil, "broker", "log", "recover", dir); err == nil || !strings.Contains(r.Stderr, "nothing has to be given up") {
		t.Fatalf("a good log: %v %s", err, r.Stderr)
	}
	rot(t, logs)
	must(t, c.Start())
	says(t, ctx, n, "broker log recover "+dir)
	acks2 := produceAll(t, ctx, c, "other", goneLines("other", 20))
	must(t, CheckCopy(goneLines("other", 20), acks2, consumeAll(t, ctx, c, "other", 1)))
	if _, err := c.Run(ctx, nil, "broker", "cluster", "health"); err == nil {
		t.Error("health has nothing to say of a refused log")
	}
	must(t, n.Kill())
	plan := run(t, ctx, c, "", "broker", "log", "recover", dir)
	if !strings.Contains(plan.Stderr, "nothing was changed") || !strings.Contains(plan.Stdout, "gives up entries") {
		t.Fatalf("the plan: %s%s", plan.Stdout, plan.Stderr)
	}
	if r, err := c.Run(ctx, nil, "broker", "log", "recover", dir, "--accept-loss"); err == nil || !strings.Contains(r.Stderr, "--yes") {
		t.Fatalf("accepted by nobody: %v %s", err, r.Stderr)
	}
	run(t, ctx, c, "", "broker", "log", "recover", dir, "--accept-loss", "--yes")
	must(t, c.Start())
	says(t, ctx, n, "because an operator accepted its loss")
	waitReady(t, ctx, c)
	kept := consumeAll(t, ctx, c, "t", 1)
	if len(kept) == 0 || len(kept) >= len(sent) {
		t.Fatalf("%d of %d records are kept", len(kept), len(sent))
	}
	at := slices.IndexFunc(acks, func(a Ack) bool { return a.Offset >= int64(len(kept)) })
	must(t, CheckCopy(sent[:at], acks[:at], kept))
	again := goneLines("again", 50)
	acks3 := produceAll(t, ctx, c, "t", again)
	if acks3[0].Offset != int64(len(kept)) {
		t.Errorf("the next record is at %d, want %d", acks3[0].Offset, len(kept))
	}
	must(t, CheckCopy(append(slices.Clone(sent[:at]), again...), append(slices.Clone(acks[:at]), acks3...), consumeAll(t, ctx, c, "t", 1)))
	must(t, c.Stop(ctx)) // what was promised of the old log is forgotten: another start finds nothing wrong
	must(t, c.Start())
	waitReady(t, ctx, c)
	if got := consumeAll(t, ctx, c, "t", 1); len(got) != len(kept)+len(again) {
		t.Errorf("%d records after a restart, want %d", len(got), len(kept)+len(again))
	}
}

// The end of one copy of three is given up by an operator, who needn't have. It acknowledged what it does not hold any more, so it does not vote until it
// has caught up with the others, and nothing is lost.
func TestMembersCutOneOfThree(t *testing.T) {
	longRun(t)
	ctx := testContext(t)
	c, sent, acks := damageCluster(t, ctx)
	must(t, CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", 1)))
	must(t, c.Stop(ctx))
	n := c.Node(1)
	logs := topicLogs(t, n)
	flipBit(t, logs[len(logs)-1], segmentHeadBytes+60)
	plan := run(t, ctx, c, "", "broker", "log", "recover", filepath.Dir(logs[0]), "--accept-loss", "--yes")
	if !strings.Contains(plan.Stderr, "neither votes nor serves until") {
		t.Fatalf("the plan: %s%s", plan.Stdout, plan.Stderr)
	}
	must(t, c.Start())
	says(t, ctx, n, "because an operator accepted its loss")
	says(t, ctx, n, `"votes":false`)
	says(t, ctx, n, "the replica votes and serves again")
	awaitHealthy(t, ctx, c)
	for _, n := range c.Nodes() {
		must(t, CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", n.ID)))
	}
}

// The same record of the newest segment is bad in every copy. Nobody is elected; each broker is told what to do; when the loss is accepted on all,
// the partition goes on with what was before it.
func TestMembersNewestSegmentBadEverywhere(t *testing.T) {
	longRun(t)
	ctx := testContext(t)
	c, sent, acks := damageCluster(t, ctx)
	must(t, CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", 1)))
	must(t, c.Stop(ctx))
	dirs := map[*Node]string{}
	for _, n := range c.Nodes() {
		logs := topicLogs(t, n)
		dirs[n] = filepath.Dir(logs[0])
		flipBit(t, logs[len(logs)-1], segmentHeadBytes+60)
	}
	must(t, c.Start())
	awaitProblem := func(want string) {
		t.Helper()
		if err := Until(ctx, func() (bool, error) {
			r, _ := c.Run(ctx, nil, "broker", "cluster", "recover", "t/0")
			return strings.Contains(r.Stdout, want), nil
		}); err != nil {
			t.Fatalf("recover never says %q: %v", want, err)
		}
	}
	awaitProblem("broker log recover")
	for _, n := range c.Nodes() {
		must(t, n.Kill())
	}
	for _, n := range c.Nodes() {
		run(t, ctx, c, "", "broker", "log", "recover", dirs[n], "--accept-loss", "--yes")
	}
	must(t, c.Start())
	awaitProblem("no other replica holds") // each may have acknowledged more than it holds: nobody votes by itself
	for _, n := range c.Nodes() {
		must(t, n.Kill())
	}
	must(t, c.Start()) // nor after one more start
	awaitProblem("no other replica holds")
	if err := Until(ctx, func() (bool, error) {
		_, err := c.Run(ctx, nil, "broker", "cluster", "recover", "t/0", "--accept-loss", "--yes")
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	awaitHealthy(t, ctx, c)
	kept := consumeAll(t, ctx, c, "t", 1)
	if len(kept) == 0 || len(kept) >= len(sent) {
		t.Fatalf("%d of %d records are kept", len(kept), len(sent))
	}
	at := slices.IndexFunc(acks, func(a Ack) bool { return a.Offset >= int64(len(kept)) })
	again := goneLines("again", 50)
	more := produceAll(t, ctx, c, "t", again)
	for _, n := range c.Nodes() {
		must(t, CheckCopy(append(slices.Clone(sent[:at]), again...), append(slices.Clone(acks[:at]), more...), consumeAll(t, ctx, c, "t", n.ID)))
	}
}
