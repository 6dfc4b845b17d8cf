package integration

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	logsPartitions = 3
	logsKeys       = 40
	// Each log is sent in phases, one piece at a time, so that kills and restarts fall between its records.
	phases         = 4
	piecesPerPhase = 8
	piecePause     = 50 * time.Millisecond
)

// sharedLogs are the real logs beside the repository, by topic name. They are not ours to ship: nil where they are missing.
func sharedLogs(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "..", "shared", "data", "*.log"))
	must(t, err)
	logs := make(map[string]string)
	for _, p := range paths {
		text, err := os.ReadFile(p)
		must(t, err)
		logs[strings.TrimSuffix(filepath.Base(p), ".log")] = string(text)
	}
	return logs
}

// generatedLogs stand in for the real ones: lines of many lengths, repeated lines, empty lines, CR LF.
func generatedLogs() map[string]string {
	logs := make(map[string]string)
	for i, name := range []string{"plain", "repeated", "long", "crlf", "mixed"} {
		var b strings.Builder
		for n := range 2000 {
			switch name {
			case "plain":
				fmt.Fprintf(&b, "%06d INFO block blk_%d of source %d is stored\n", n, n*7919, i)
			case "repeated":
				fmt.Fprintf(&b, "state changed to %d\n", n%11)
			case "long":
				fmt.Fprintf(&b, "%d %s\n", n, strings.Repeat("x", n%1500))
			case "crlf":
				fmt.Fprintf(&b, "%d WARN worker left\r\n", n)
			case "mixed":
				b.WriteString(strings.Repeat("\tλ", n%3) + "\n")
			}
		}
		logs[name] = b.String()
	}
	return logs
}

// Five logs are produced while the leader is killed and restarted twice. Every acknowledged line is there once, in order per key,
// on every replica, and still is after all brokers were stopped and started again.
func TestLogsSurviveLeaderKills(t *testing.T) {
	ctx := testContext(t)
	logs := sharedLogs(t)
	if len(logs) == 0 {
		t.Log("../shared/data/*.log is missing: the same runs with generated logs")
		logs = generatedLogs()
	}
	c := startCluster(t, ctx, 3)
	var all []*logRun
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		must(t, c.CreateTopic(ctx, name, logsPartitions))
		all = append(all, &logRun{topic: name, sent: KeyedLines(logs[name], logsKeys), gate: make(chan struct{}, phases)})
	}

	producers, producersCtx := errgroup.WithContext(ctx)
	for _, l := range all {
		producers.Go(func() error { return l.produce(producersCtx, c) })
	}
	for range 2 {
		killLeader(t, producersCtx, c, all)
	}
	openGates(all)
	openGates(all)
	must(t, producers.Wait())
	checkLogs(t, ctx, c, all)

	must(t, c.Stop(ctx))
	must(t, c.Start())
	waitReady(t, ctx, c)
	checkLogs(t, ctx, c, all)
}

// logRun is the journey of one log.
type logRun struct {
	topic string
	sent  []Record
	gate  chan struct{} // one token lets one phase begin
	acks  []Ack         // complete when produce has returned
	acked atomic.Int64
}

func openGates(all []*logRun) {
	for _, l := range all {
		l.gate <- struct{}{}
	}
}

// produce sends the log phase by phase; each phase waits for its token.
func (l *logRun) produce(ctx context.Context, c *Cluster) error {
	p, err := c.StartProducer(ctx, l.topic, "-K", keyDelimiter)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { return l.feed(ctx, p) })
	err = p.Acks(func(a Ack) error {
		if a.Failed() {
			return fmt.Errorf("%s: record %d was not acknowledged: %+v", l.topic, len(l.acks), a)
		}
		l.acks = append(l.acks, a)
		l.acked.Add(1)
		return nil
	})
	if feedErr := g.Wait(); err == nil {
		err = feedErr
	}
	if err != nil {
		io.Copy(io.Discard, p.stdout)
	}
	if waitErr := p.Wait(); err == nil {
		err = waitErr
	}
	return err
}

func (l *logRun) feed(ctx context.Context, p *Producer) error {
	defer p.CloseInput()
	const pieces = phases * piecesPerPhase
	for i := range pieces {
		if i%piecesPerPhase == 0 {
			select {
			case <-l.gate:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		piece := l.sent[i*len(l.sent)/pieces : (i+1)*len(l.sent)/pieces]
		if _, err := io.WriteString(p, Lines(piece)); err != nil {
			return fmt.Errorf("%s: %w\n%s", l.topic, err, p.Stderr())
		}
		select {
		case <-time.After(piecePause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// killLeader lets the next phase begin, kills the leader of the first log's partition 0 once every log has new acknowledgements,
// waits until another broker leads, restarts the killed one and waits until it has caught up.
func killLeader(t *testing.T, ctx context.Context, c *Cluster, all []*logRun) {
	t.Helper()
	leader, err := c.WaitLeader(ctx, all[0].topic, 0)
	must(t, err)
	before := make([]int64, len(all))
	for i, l := range all {
		before[i] = l.acked.Load()
	}
	openGates(all)
	must(t, Until(ctx, func() (bool, error) {
		for i, l := range all {
			if l.acked.Load() == before[i] {
				return false, nil
			}
		}
		return true, nil
	}))
	must(t, c.Node(leader).Kill())
	next, err := c.WaitLeader(ctx, all[0].topic, 0, leader)
	must(t, err)
	t.Logf("killed node %d, leader of %s/0; node %d took over", leader, all[0].topic, next)
	must(t, c.Node(leader).Start())
	waitReady(t, ctx, c, c.Node(leader))
}

func checkLogs(t *testing.T, ctx context.Context, c *Cluster, all []*logRun) {
	t.Helper()
	for _, l := range all {
		for _, n := range c.Nodes() {
			if err := CheckCopy(l.sent, l.acks, consumeAll(t, ctx, c, l.topic, n.ID)); err != nil {
				t.Errorf("%s on replica %d: %v", l.topic, n.ID, err)
			}
		}
	}
}
