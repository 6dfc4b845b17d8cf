package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// With two of three brokers stopped, the third still returns everything it knows to be committed; what would need a majority fails
// within its deadline and says why: a linearizable read, and a produce, whose outcome is never called acknowledged.
func TestTwoOfThreeStopped(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	must(t, c.CreateTopic(ctx, "t", 1))
	sent := KeyedLines(generatedLogs()["plain"], logsKeys)
	acks := produceAll(t, ctx, c, "t", sent)
	const left = 2
	if err := CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", left)); err != nil {
		t.Fatal(err)
	}
	must(t, c.Stop(ctx, c.Others(left)...))

	if err := CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", left, "--consistency", "committed")); err != nil {
		t.Errorf("committed read with the majority stopped: %v", err)
	}
	r := runWithin(t, time.Minute, c, "", "consume", "t", "-e", "--replica", fmt.Sprint(left), "--consistency", "linearizable")
	wantFailure(t, r, exitUnavailable, "quorum")
	r = runWithin(t, time.Minute, c, "one more\n", "produce", "t", "--acks-json", "--delivery-timeout", "3s")
	acksOf, err := ParseAcks(r.Stdout)
	if err != nil || len(acksOf) != 1 || !acksOf[0].Failed() || r.Code == 0 {
		t.Errorf("produce without a majority: exit code %d, %+v, %v\n%s", r.Code, acksOf, err, r.Stderr)
	}

	must(t, c.Start(c.Others(left)...))
	waitReady(t, ctx, c)
	sent = append(sent, Record{Value: "one more"})
	acks = append(acks, acksOf[0])
	for _, n := range c.Nodes() {
		if err := CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", n.ID)); err != nil {
			t.Errorf("replica %d after all came back: %v", n.ID, err)
		}
	}
}

// Exit codes of every command.
const (
	exitItemFailed  = 1
	exitUsage       = 2
	exitUnavailable = 4
)

// runWithin runs a command that may fail; it must end within the given time.
func runWithin(t *testing.T, limit time.Duration, c *Cluster, stdin, program string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("it should have ended within %v", limit))
	defer cancel()
	r, err := c.opts.Bin.Run(ctx, c.Brokers(), strings.NewReader(stdin), program, args...)
	if err != nil {
		t.Error(err)
	}
	return r
}

// wantFailure checks the exit code and that standard error says each part; standard output must carry no error text.
func wantFailure(t *testing.T, r Result, code int, parts ...string) {
	t.Helper()
	if r.Code != code {
		t.Errorf("%s: exit code %d, want %d\n%s", r.Command, r.Code, code, r.Stderr)
	}
	for _, part := range parts {
		if !strings.Contains(r.Stderr, part) {
			t.Errorf("%s: the message does not say %q:\n%s", r.Command, part, r.Stderr)
		}
	}
	if strings.Contains(r.Stdout, "rror") && !strings.HasPrefix(r.Stdout, "{") {
		t.Errorf("%s: an error on standard output:\n%s", r.Command, r.Stdout)
	}
}
