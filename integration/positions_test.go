package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Real processes: conditional appends; reads by time, in ranges, the tail, and with the session token of an append, from every replica.
func TestConditionalAppendsAndPositions(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	run(t, ctx, c, "", "broker", "topic", "create", "t", "--replication-factor", "3")
	values := func(args ...string) string {
		t.Helper()
		return strings.ReplaceAll(strings.TrimSpace(run(t, ctx, c, "", "consume", append([]string{"t"}, args...)...).Stdout), "\n", " ")
	}
	run(t, ctx, c, "a\nb\n", "produce", "t", "--expected-offset", "0", "-q")
	r := runWithin(t, time.Minute, c, "x\ny\n", "produce", "t", "--expected-offset", "1", "-q")
	wantFailure(t, r, exitItemFailed, "next offset is 2, not 1")
	between := time.Now()
	for time.Since(between) < 20*time.Millisecond { // append times are in ms
		time.Sleep(5 * time.Millisecond)
	}
	acks, err := ParseAcks(run(t, ctx, c, "c\nd\ne\n", "produce", "t", "--expected-offset", "2", "--acks-json").Stdout)
	must(t, err)
	for _, x := range []struct{ args, want string }{
		{"-e", "a b c d e"}, {"-o 1:3", "b c"}, {"-o :2", "a b"}, {"--tail 2 -e", "d e"}, {"-o -3:-1", "c d"}, {"-o +1 -n 2", "b c"},
		{fmt.Sprintf("-o @%d -e", between.UnixMilli()+10), "c d e"}, {fmt.Sprintf("-o @-1h:@%d", between.UnixMilli()+10), "a b"}, {"-o @now -e", ""},
	} {
		if got := values(strings.Fields(x.args)...); got != x.want {
			t.Errorf("consume t %s: %q, want %q", x.args, got, x.want)
		}
	}
	for _, n := range c.Nodes() {
		if got := values("-e", "--replica", fmt.Sprint(n.ID), "--session", acks[2].Session); got != "a b c d e" {
			t.Errorf("replica %d does not show what the session saw: %q", n.ID, got)
		}
	}
	if got := run(t, ctx, c, "", "broker", "__complete", "topic", "describe", "").Stdout; !strings.HasPrefix(got, "t\n") {
		t.Errorf("completion offers %q", got)
	}
}
