package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// faultCase is one way to hurt real brokers under load.
type faultCase struct {
	name  string
	short bool // among the shortest: part of make ci-long
	// needs says why the case can't run here, "" if it can.
	needs   func() string
	links   bool     // a proxy on every link between brokers
	clients bool     // a proxy before every broker's clients
	serve   []string // added to every broker's command line
	burst   int      // pairs of records that the load sends every 10 ms; 0: one
	secure  bool     // TLS and authentication on every listener
	images  bool     // each data directory on an ext4 image of its own
	hurt    func(*faultRun)
	gapMax  time.Duration // longest pause of acknowledgements that is all right; 0: any
	restart bool          // brokers that ended are started again before the judgement
}

// faultCases are all cases; make faults CASE=name runs one.
func faultCases() []faultCase {
	return slices.Concat(killCases, networkCases, diskCases, reserveCases, lostCases, []faultCase{recoverCase}, hostileCases, siegeCases, readCases, damageCases, fillCases)
}

// TestFaults runs what $LOGRAFT_FAULTS names (all, short, or one case) and prints a table: what was acknowledged, and what became of it.
func TestFaults(t *testing.T) {
	want := os.Getenv("LOGRAFT_FAULTS")
	if want == "" {
		t.Skip("run make faults, or set LOGRAFT_FAULTS to all, short or the name of a case")
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-24s %12s %6s %10s %9s %18s  %s\n", "case", "acknowledged", "lost", "duplicates", "divergent", "longest pause", "verdict")
	found := false
	for _, c := range faultCases() {
		if want != "all" && want != c.name && !(want == "short" && c.short) {
			continue
		}
		found = true
		t.Run(c.name, func(t *testing.T) {
			row := faultRow{verdict: "FAILED"}
			defer func() {
				if t.Skipped() {
					row.verdict = "skipped"
				} else if !t.Failed() && row.verdict == "FAILED" {
					row.verdict = "ok"
				}
				fmt.Fprintf(&table, "%-24s %12d %6d %10d %9d %18s  %s %s\n", c.name, row.acked, row.lost, row.duplicates, row.divergent, row.pause.Round(time.Millisecond), row.verdict, row.note)
			}()
			runFault(t, &c, &row)
		})
	}
	if !found {
		t.Fatalf("LOGRAFT_FAULTS=%s names no case", want)
	}
	t.Logf("\n%s", table.String())
}

type faultRow struct {
	acked, lost, duplicates, divergent int
	pause                              time.Duration
	verdict, note                      string
}

// faultRun is one case on its way.
type faultRun struct {
	*testing.T
	ctx    context.Context
	c      *Cluster
	burst  int
	load   *faultLoad
	images *images
	note   string
	// without are nodes that hold no replica in the end.
	without []int
}

const faultTopic = "t"

// faultContext is testContext with time for what $LOGRAFT_KILLS and $LOGRAFT_RECORDS ask for.
func faultContext(t *testing.T) context.Context {
	t.Helper()
	limit := testMax + time.Duration(fromEnv("LOGRAFT_KILLS", 0))*8*time.Second + time.Duration(fromEnv("LOGRAFT_RECORDS", 0))*20*time.Millisecond
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("the case took longer than %v", limit))
	t.Cleanup(cancel)
	return ctx
}

// fromEnv is a number that make passes on, or what it is without one.
func fromEnv(name string, absent int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return absent
}

func runFault(t *testing.T, fc *faultCase, row *faultRow) {
	if fc.needs != nil {
		if why := fc.needs(); why != "" {
			t.Skip(why)
		}
	}
	f := &faultRun{T: t, ctx: faultContext(t), burst: max(1, fc.burst)}
	o := Options{Bin: binaries(t), Dir: t.TempDir(), Nodes: 3, Links: fc.links, ClientLinks: fc.clients, Serve: fc.serve}
	if fc.secure {
		o.Secure = &Secure{Clients: []string{"good", "mallory"}, Serve: []string{"--limits-bytes-in-flight", fmt.Sprint(siegeBytes), "--leaders-auto-rebalance=false"}} // no leader moves but by what the attack does
	}
	if fc.images {
		f.images = newImages(t, o.Dir)
		o.DataDir = f.images.make
	}
	c, err := New(o)
	must(t, err)
	f.c = c
	t.Cleanup(func() {
		c.Close()
		for _, n := range c.Nodes() {
			checkLog(t, n)
		}
	})
	must(t, c.Start())
	waitReady(t, f.ctx, c)
	f.run("broker", "topic", "create", faultTopic, "--partitions", "2", "--replication-factor", "3", "-c", "segment.bytes=32768")
	f.load = startLoad(f)
	f.load.await(100)
	fc.hurt(f)
	f.load.await(f.load.count() + 100) // service is back
	f.load.stop()
	for _, n := range c.Nodes() {
		if !n.Running() && fc.restart {
			must(t, n.Start())
		}
	}
	waitReady(t, f.ctx, c)
	f.judge(row)
	if fc.gapMax > 0 && row.pause > fc.gapMax {
		t.Errorf("no acknowledgement for %v, %v is all right", row.pause, fc.gapMax)
	}
}

// run runs a command that must work.
func (f *faultRun) run(program string, args ...string) Result {
	f.Helper()
	return run(f.T, f.ctx, f.c, "", program, args...)
}

func (f *faultRun) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-f.ctx.Done():
		f.Fatal(context.Cause(f.ctx))
	}
}

// leader is the broker that leads the first partition.
func (f *faultRun) leader(not ...int) *Node {
	f.Helper()
	id, err := f.c.WaitLeader(f.ctx, faultTopic, 0, not...)
	must(f.T, err)
	return f.c.Node(id)
}

// follower is a broker that does not lead the first partition.
func (f *faultRun) follower() *Node { return f.c.Others(f.leader().ID)[0] }

func (f *faultRun) start(nodes ...*Node) {
	f.Helper()
	must(f.T, f.c.Start(nodes...))
	waitReady(f.T, f.ctx, f.c, nodes...)
}

// judge compares every copy with what was acknowledged.
func (f *faultRun) judge(row *faultRow) {
	sent, acks := f.load.sent, f.load.acks
	values := map[position]string{}
	row.pause, row.note = f.load.longestPause(), f.note
	for _, a := range acks {
		if !a.Failed() {
			row.acked++
		}
	}
	for _, n := range f.c.Others(f.without...) {
		got := consumeAll(f.T, f.ctx, f.c, faultTopic, n.ID)
		if err := CheckCopy(sent, acks, got); err != nil {
			f.Errorf("replica %d: %v", n.ID, err)
		}
		seen := map[string]bool{}
		at := map[position]string{}
		for _, r := range got {
			p := position{r.Partition, r.Offset}
			if seen[string(r.Value)] {
				row.duplicates++
			}
			seen[string(r.Value)], at[p] = true, string(r.Value)
			if old, ok := values[p]; ok && old != string(r.Value) {
				row.divergent++
			}
			values[p] = string(r.Value)
		}
		for i, a := range acks {
			if !a.Failed() && at[position{a.Partition, a.Offset}] != sent[i].Value {
				row.lost++
			}
		}
	}
}

// faultLoad is one `produce` process that is fed a few records at a time while a case runs.
type faultLoad struct {
	f       *faultRun
	p       *Producer
	done    chan error // of the reader of acknowledgements
	stopped chan struct{}
	fed     chan struct{}

	mu     sync.Mutex
	sent   []Record
	acks   []Ack
	paused bool        // nothing is fed
	at     []time.Time // when each acknowledgement that did not fail came; zero where the load was resumed
}

const loadEvery = 10 * time.Millisecond

func startLoad(f *faultRun) *faultLoad {
	f.Helper()
	p, err := f.c.StartProducer(f.ctx, faultTopic, "-K", keyDelimiter)
	must(f.T, err)
	l := &faultLoad{f: f, p: p, done: make(chan error, 1), stopped: make(chan struct{}), fed: make(chan struct{})}
	go func() {
		l.done <- p.Acks(func(a Ack) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.acks = append(l.acks, a)
			if !a.Failed() {
				l.at = append(l.at, time.Now())
			}
			return nil
		})
	}()
	go l.feed()
	f.Cleanup(func() {
		l.p.CloseInput()
		l.p.cmd.Process.Kill()
	})
	return l
}

func (l *faultLoad) feed() {
	defer close(l.fed)
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-l.stopped:
			return
		case <-tick.C:
		}
		var next []Record
		for ; len(next) < 2*l.f.burst; n += 2 {
			next = append(next, Record{fmt.Sprint("key-", n%7), fmt.Sprintf("%d %s", n, strings.Repeat("x", n%300))}, Record{fmt.Sprint("key-", n%5), fmt.Sprint(n + 1)})
		}
		l.mu.Lock()
		paused := l.paused
		if !paused {
			l.sent = append(l.sent, next...)
		}
		l.mu.Unlock()
		if paused {
			n -= len(next)
			continue
		}
		if _, err := l.p.Write([]byte(Lines(next))); err != nil {
			return
		}
	}
}

func (l *faultLoad) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.at)
}

// await waits until so many records are acknowledged.
func (l *faultLoad) await(count int) {
	l.f.Helper()
	ctx, cancel := context.WithTimeoutCause(l.f.ctx, 90*time.Second, errors.New("no such progress in 90 s"))
	defer cancel()
	if err := Until(ctx, func() (bool, error) { return l.count() >= count, nil }); err != nil {
		l.f.Fatalf("%d records acknowledged, waiting for %d: %v\n%s", l.count(), count, err, l.p.Stderr())
	}
}

// pause stops feeding and waits until every record has its outcome.
func (l *faultLoad) pause() {
	l.f.Helper()
	l.mu.Lock()
	l.paused = true
	l.mu.Unlock()
	must(l.f.T, Until(l.f.ctx, func() (bool, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acks) == len(l.sent), nil
	}))
}

// resume ends pause. The time between counts as no pause of the brokers.
func (l *faultLoad) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = false
	l.at = append(l.at, time.Time{})
}

// stop ends the load; every record has its outcome then.
func (l *faultLoad) stop() {
	l.f.Helper()
	close(l.stopped)
	<-l.fed
	must(l.f.T, l.p.CloseInput())
	select {
	case err := <-l.done:
		must(l.f.T, err)
	case <-l.f.ctx.Done():
		l.f.Fatal(context.Cause(l.f.ctx))
	}
	if err := l.p.Wait(); err != nil {
		l.f.Logf("the producer says: %v", err) // records of unknown outcome are judged, not forbidden
	}
}

// longestPause is the longest time between two acknowledgements.
func (l *faultLoad) longestPause() (longest time.Duration) {
	for i := 1; i < len(l.at); i++ {
		if !l.at[i].IsZero() && !l.at[i-1].IsZero() {
			longest = max(longest, l.at[i].Sub(l.at[i-1]))
		}
	}
	return longest
}

// pauseAfter is the longest pause between acknowledgements that overlaps the time from begin to end.
func (l *faultLoad) pauseAfter(begin, end time.Time) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := begin
	for _, at := range l.at {
		if at.Before(begin) {
			continue
		}
		longest = max(longest, at.Sub(before))
		if before = at; at.After(end) {
			break
		}
	}
	return longest
}
