package integration

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What TestBigTrim demands. The bound of memory is of anonymous memory: what the broker holds itself, without the page cache.
const (
	bigTopic        = "big"
	bigRecordBytes  = 16 << 10
	bigSegmentBytes = 64 << 20
	bigMemoryMax    = 512 << 20
	bigPauseMax     = 5 * time.Second // of the writer, while nobody dies
	bigTimeMax      = 30 * time.Minute
)

// bigRun is a cluster with one large partition that somebody writes to all the time.
type bigRun struct {
	*testing.T
	ctx    context.Context
	c      *Cluster
	writer *bigWriter

	mu    sync.Mutex
	peaks map[int]int64 // anonymous memory by node, since the last phase
}

// bigWriter appends numbered records, some hundred a second, and keeps the acknowledgements.
type bigWriter struct {
	p    *Producer
	stop chan struct{}
	fed  sync.WaitGroup
	read sync.WaitGroup

	mu    sync.Mutex
	acks  []Ack
	last  time.Time
	pause time.Duration // longest time without an acknowledgement since the last phase
}

func startBigWriter(ctx context.Context, c *Cluster) (*bigWriter, error) {
	p, err := c.StartProducer(ctx, bigTopic, "-q")
	if err != nil {
		return nil, err
	}
	w := &bigWriter{p: p, stop: make(chan struct{}), last: time.Now()}
	w.fed.Go(func() {
		defer p.CloseInput()
		for i, every := 0, time.NewTicker(5*time.Millisecond); ; i++ {
			select {
			case <-w.stop:
				return
			case <-every.C:
				if _, err := fmt.Fprintf(p, "written %d\n", i); err != nil {
					return
				}
			}
		}
	})
	w.read.Go(func() {
		_ = p.Acks(func(a Ack) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.acks = append(w.acks, a)
			w.pause, w.last = max(w.pause, time.Since(w.last)), time.Now()
			return nil
		})
	})
	return w, nil
}

// phase gives what the writer got since the last phase.
func (w *bigWriter) phase() (acked int, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	acked, pause = len(w.acks), max(w.pause, time.Since(w.last))
	w.pause = 0
	return acked, pause
}

func (w *bigWriter) end() ([]Ack, error) {
	close(w.stop)
	w.fed.Wait()
	w.read.Wait()
	return w.acks, w.p.Wait()
}

// anonymous is a process's own memory in bytes, 0 if it does not run or the system does not tell.
func anonymous(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// watchMemory keeps the peaks until ctx ends.
func (r *bigRun) watchMemory(ctx context.Context) {
	for every := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-every.C {
		r.mu.Lock()
		for _, n := range r.c.Nodes() {
			if n.proc != nil {
				r.peaks[n.ID] = max(r.peaks[n.ID], anonymous(n.proc.pid()))
			}
		}
		r.mu.Unlock()
	}
}

// said tells of a phase and holds its memory and pauses against the bounds.
func (r *bigRun) said(what string, began time.Time) {
	r.Helper()
	r.mu.Lock()
	peaks := r.peaks
	r.peaks = map[int]int64{}
	r.mu.Unlock()
	out := fmt.Sprintf("%s: %.1f s", what, time.Since(began).Seconds())
	for _, n := range r.c.Nodes() {
		if p := peaks[n.ID]; p > 0 {
			out += fmt.Sprintf(", node %d %d MiB", n.ID, p>>20)
			if p > bigMemoryMax {
				r.Errorf("%s: node %d held %d MiB of its own, want at most %d", what, n.ID, p>>20, bigMemoryMax>>20)
			}
		}
	}
	if r.writer != nil {
		acked, pause := r.writer.phase()
		out += fmt.Sprintf("; %d records acknowledged meanwhile and before, longest pause %.2f s", acked, pause.Seconds())
		if pause > bigPauseMax {
			r.Errorf("%s: nothing was acknowledged for %v", what, pause)
		}
	}
	r.Log(out)
}

// folder is what a broker's groups take on its disk, in bytes.
func folder(n *Node) (bytes int64) {
	_ = filepath.WalkDir(filepath.Join(n.DataDir, "groups"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// fill appends so many records and waits until every broker that runs has them.
func (r *bigRun) fill(records int64) {
	r.Helper()
	began := time.Now()
	run(r.T, r.ctx, r.c, "", "broker", "bench", "produce", "--topic", bigTopic, "--data", "random", "-z", "none", "--record-size", fmt.Sprint(bigRecordBytes), "--records", fmt.Sprint(records), "--json")
	r.said(fmt.Sprintf("%d records of %d KiB produced", records, bigRecordBytes>>10), began)
	began = time.Now()
	for _, n := range r.c.Nodes() {
		if n.Running() {
			r.caughtUp(n.ID)
		}
	}
	r.said("the slowest replica caught up with that", began)
}

// disks waits until the groups of these brokers take no more than most bytes.
func (r *bigRun) disks(what string, most int64, nodes ...*Node) {
	r.Helper()
	var got []int64
	if err := Until(r.ctx, func() (bool, error) {
		got = got[:0]
		ok := true
		for _, n := range nodes {
			got = append(got, folder(n))
			ok = ok && got[len(got)-1] <= most
		}
		return ok, nil
	}); err != nil {
		r.Fatalf("%s: the groups take %v bytes, want at most %d: %v", what, got, most, err)
	}
}

// caughtUp waits until the replica on a node has applied what the leader had when the question was asked.
func (r *bigRun) caughtUp(node int) {
	r.Helper()
	var d described
	if err := Until(r.ctx, func() (bool, error) {
		d = describe(r.T, r.ctx, r.c, bigTopic)
		high, here := int64(0), int64(-1)
		for _, s := range d.Partitions[0].States {
			if high = max(high, s.HighWatermark); s.Node == node {
				here = s.HighWatermark
			}
		}
		return here >= 0 && high-here < 1000, nil
	}); err != nil {
		r.Fatalf("node %d does not catch up: %v: %+v", node, err, d.Partitions[0].States)
	}
}

// A partition of $LOGRAFT_BIG_GIB GiB is trimmed to its half while one replica is down that has a quarter, and comes back behind the log start;
// then another broker is added and takes over a replica. Somebody writes all the time and is never held up for long; brokers' memory
// stays in its bounds; disks are free again soon after the trim; and all replicas give the same bytes.
func TestBigTrim(t *testing.T) {
	gib, _ := strconv.ParseInt(os.Getenv("LOGRAFT_BIG_GIB"), 10, 64)
	if gib < 1 {
		t.Skip("run make big, or set LOGRAFT_BIG_GIB; it takes 4 times as much disk")
	}
	ctx, cancel := context.WithTimeout(context.Background(), bigTimeMax)
	defer cancel()
	c, err := New(Options{Bin: binaries(t), Dir: t.TempDir(), Nodes: 4, First: 3})
	must(t, err)
	r := &bigRun{T: t, ctx: ctx, c: c, peaks: map[int]int64{}}
	watched := make(chan struct{})
	watching, stopWatching := context.WithCancel(ctx)
	t.Cleanup(func() {
		stopWatching()
		<-watched
		c.Close()
		for _, n := range c.Nodes() {
			if n.proc != nil {
				checkLog(t, n)
			}
		}
	})
	go func() { r.watchMemory(watching); close(watched) }()
	must(t, c.Start())
	waitReady(t, ctx, c, c.Nodes()[:3]...)
	run(t, ctx, c, "", "broker", "topic", "create", bigTopic, "--replication-factor", "3", "-c", "retention.ms=-1", "-c", fmt.Sprintf("segment.bytes=%d", bigSegmentBytes))

	records := gib << 30 / bigRecordBytes
	r.fill(records / 4)
	leader, err := c.Leader(ctx, bigTopic, 0)
	must(t, err)
	away := c.Others(leader, 4)[0]
	must(t, c.Stop(ctx, away))
	r.fill(records - records/4)

	r.writer, err = startBigWriter(ctx, c)
	must(t, err)
	began := time.Now()
	half := records / 2
	run(t, ctx, c, "", "broker", "topic", "trim", bigTopic, "--before-offset", fmt.Sprint(half), "--yes")
	r.disks("after the trim", gib<<30/2+4*bigSegmentBytes, c.Others(away.ID, 4)...)
	r.said("trimmed, the disks of two replicas freed", began)

	began = time.Now()
	must(t, away.Start())
	r.caughtUp(away.ID)
	r.disks("after it caught up", gib<<30/2+4*bigSegmentBytes, away)
	r.said(fmt.Sprintf("node %d, which was behind the log start, caught up", away.ID), began)

	began = time.Now()
	run(t, ctx, c, "", "broker", "cluster", "add", fmt.Sprintf("4=%s", c.Node(4).Peer))
	must(t, c.Node(4).Start())
	waitReady(t, ctx, c, c.Node(4))
	old := c.Others(leader, away.ID, 4)[0]
	run(t, ctx, c, "", "broker", "topic", "reassign", bigTopic+"/0", "--replicas", fmt.Sprintf("%d,%d,4", leader, away.ID), "-w")
	r.caughtUp(4)
	r.said(fmt.Sprintf("a replica moved from node %d to node 4", old.ID), began)

	acks, err := r.writer.end()
	must(t, err)
	r.sameBytes(half, records, acks, leader, away.ID, 4)
}

// sameBytes reads the first and the last of what is left, and all that the writer was acknowledged, from each replica.
func (r *bigRun) sameBytes(from, to int64, acks []Ack, nodes ...int) {
	r.Helper()
	part := min(int64(4096), (to-from)/2)
	var first []string
	for _, n := range nodes {
		var hashes []string
		for _, span := range [][2]int64{{from, from + part}, {to - part, to}} {
			h, err := r.c.ConsumeHash(r.ctx, bigTopic, n, "-o", fmt.Sprintf("%d:%d", span[0], span[1]))
			must(r.T, err)
			hashes = append(hashes, h)
		}
		if first = append(first, strings.Join(hashes, " ")); first[0] != first[len(first)-1] {
			r.Errorf("nodes %d and %d give different bytes", nodes[0], n)
		}
		at := map[int64]string{}
		for _, x := range consumeAll(r.T, r.ctx, r.c, bigTopic, n, "-o", fmt.Sprintf("%d:", to)) {
			at[x.Offset] = string(x.Value)
		}
		for i, a := range acks {
			if a.Failed() || at[a.Offset] != fmt.Sprintf("written %d", i) {
				r.Fatalf("node %d: record %d was acknowledged as %+v, there is %q", n, i, a, at[a.Offset])
			}
		}
	}
	r.Logf("%d records of the writer and %d of the rest are the same on nodes %v", len(acks), 2*part, nodes)
}
