package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Deadlines are generous: they say when a slow shared machine is given up on, not how fast a broker is.
const (
	testMax  = 4 * time.Minute
	readyMax = 90 * time.Second
)

var built struct {
	once sync.Once
	bin  Binaries
	err  error
	dir  string // to remove at the end; "" for $LOGRAFT_BIN
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(removeBuilt{m})
}

type removeBuilt struct{ m *testing.M }

func (r removeBuilt) Run() int {
	code := r.m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	return code
}

// binaries builds the programs once per test run, with the race detector if $LOGRAFT_RACE is set, or takes those in $LOGRAFT_BIN.
func binaries(t *testing.T) Binaries {
	t.Helper()
	if testing.Short() {
		t.Skip("real brokers are left out with -short")
	}
	built.once.Do(func() {
		if dir := os.Getenv("LOGRAFT_BIN"); dir != "" {
			built.bin, built.err = Binaries(dir), Binaries(dir).Check()
			return
		}
		if built.dir, built.err = os.MkdirTemp("", "lograft-integration-"); built.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), testMax)
		defer cancel()
		built.bin, built.err = Build(ctx, built.dir, os.Getenv("LOGRAFT_RACE") != "")
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.bin
}

// testContext ends when the test should have been over for long.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), testMax, fmt.Errorf("the test took longer than %v", testMax))
	t.Cleanup(cancel)
	return ctx
}

// startCluster starts brokers, waits until they are ready and takes care of their end. Their logs are shown if the test fails; a
// panic or a data race in a broker fails it.
func startCluster(t *testing.T, ctx context.Context, nodes int) *Cluster {
	t.Helper()
	c, err := New(Options{Bin: binaries(t), Dir: t.TempDir(), Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		for _, n := range c.Nodes() {
			checkLog(t, n)
		}
	})
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	waitReady(t, ctx, c)
	return c
}

func checkLog(t *testing.T, n *Node) {
	log, err := os.ReadFile(n.LogFile)
	if err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
		if at := strings.Index(string(log), bad); at >= 0 {
			t.Errorf("node %d: %s", n.ID, log[at:min(len(log), at+4000)])
		}
	}
	if t.Failed() {
		t.Logf("node %d: the log ends with:\n%s", n.ID, n.LogTail())
	}
}

func waitReady(t *testing.T, ctx context.Context, c *Cluster, nodes ...*Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	must(t, c.WaitReady(ctx, nodes...))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command against the cluster; it must exit with 0.
func run(t *testing.T, ctx context.Context, c *Cluster, stdin, program string, args ...string) Result {
	t.Helper()
	r, err := c.Run(ctx, strings.NewReader(stdin), program, args...)
	must(t, err)
	return r
}

// consumeAll is what one replica returns for a topic, from its start to its end.
func consumeAll(t *testing.T, ctx context.Context, c *Cluster, topic string, replica int, args ...string) []Consumed {
	t.Helper()
	args = append([]string{topic, "-e", "-J", "--replica", fmt.Sprint(replica)}, args...)
	got, err := ParseConsumed(run(t, ctx, c, "", "consume", args...).Stdout)
	must(t, err)
	return got
}

// produceAll sends records to a topic; every one must be acknowledged.
func produceAll(t *testing.T, ctx context.Context, c *Cluster, topic string, records []Record, args ...string) []Ack {
	t.Helper()
	args = append([]string{topic, "-K", keyDelimiter, "--acks-json"}, args...)
	acks, err := ParseAcks(run(t, ctx, c, Lines(records), "produce", args...).Stdout)
	must(t, err)
	for i, a := range acks {
		if a.Failed() {
			t.Fatalf("record %d was not acknowledged: %+v", i, a)
		}
	}
	return acks
}
