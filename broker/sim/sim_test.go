package sim

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"lograft/broker/cluster"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this one seed")
	seedsFlag = flag.Int("seeds", 8, "how many fresh seeds TestSimSeeds runs")
	stepsFlag = flag.String("steps", "", "with -seed: write every step of the run to this file")
)

// fewSeeds is how many fresh seeds each of the smaller simulations runs.
const fewSeeds = 3

// seeds gives the one seed asked for, or a few fresh ones, printed first.
func seeds(t *testing.T) []uint64 { return freshSeeds(t, fewSeeds) }

// oneSeed is seeds for tests that take long.
func oneSeed(t *testing.T) []uint64 { return freshSeeds(t, 1) }

func freshSeeds(t *testing.T, count int) []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	base := uint64(time.Now().UnixNano())
	t.Logf("base seed %d (%d seeds follow it)", base, count)
	all := make([]uint64, count)
	for i := range all {
		all[i] = base + uint64(i)
	}
	return all
}

func failure(t *testing.T, w *World, seed uint64, format string, args ...any) {
	t.Helper()
	t.Fatalf("seed %d: %s\nreplay: go test ./broker/sim -run %s -seed %d\nlast steps:\n%s", seed, fmt.Sprintf(format, args...), t.Name(), seed, strings.Join(w.Lines(), "\n"))
}

func newCluster(t *testing.T, o Options) (*World, *cluster.Topic) {
	t.Helper()
	w := NewWorld(o)
	t.Cleanup(func() {
		if err := w.Broken(); err != nil && !t.Failed() {
			t.Errorf("seed %d: %v\nreplay: go test ./broker/sim -run %s -seed %d\nlast steps:\n%s", o.Seed, err, t.Name(), o.Seed, strings.Join(w.Lines(), "\n"))
		}
	})
	if err := w.Start(); err != nil {
		failure(t, w, o.Seed, "start: %v", err)
	}
	if err := w.Register(); err != nil {
		failure(t, w, o.Seed, "register: %v", err)
	}
	topic, err := w.CreateTopic("t", 2, 3)
	if err != nil {
		failure(t, w, o.Seed, "create: %v", err)
	}
	return w, topic
}

// Three brokers and two writers run twice from one seed: every step is the same.
func TestSimSameTrace(t *testing.T) {
	seed := seeds(t)[0]
	t.Logf("seed %d", seed)
	run := func() uint64 {
		w, topic := newCluster(t, DefaultOptions(seed))
		writers := startWriters(w, topic, 200)
		w.After(2e9, func() { w.Node(2).Crash() })
		w.After(4e9, func() { boot(t, w, 2, seed) })
		finishWriters(t, w, seed, writers)
		w.RunUntil(10e9, func() bool { return w.Counts.Restarts == 4 }) // the writers may be done before node 2 is up again
		checkAll(t, w, seed, topic, writers)
		return w.Trace()
	}
	if a, b := run(), run(); a != b {
		t.Fatalf("seed %d: traces %x and %x", seed, a, b)
	}
}

func startWriters(w *World, topic *cluster.Topic, records uint64) []*Writer {
	var ws []*Writer
	for i := range 4 {
		p := w.NewWriter(int64(100+i), topic, i%len(topic.Partitions), records)
		p.Start()
		ws = append(ws, p)
	}
	return ws
}

func boot(t *testing.T, w *World, id uint64, seed uint64) {
	t.Helper()
	if err := w.Node(id).Boot(); err != nil {
		failure(t, w, seed, "boot of node %d: %v", id, err)
	}
}

func finishWriters(t *testing.T, w *World, seed uint64, ws []*Writer) {
	t.Helper()
	done := func() bool {
		for _, p := range ws {
			if !p.Done() {
				return false
			}
		}
		return true
	}
	if !w.RunUntil(300e9, done) {
		failure(t, w, seed, "writers did not finish within 300 s of simulated time")
	}
}

// checkAll reads every partition on every broker: each acknowledged record is at its offset, once, in order of its writer, and the
// copies are equal.
func checkAll(t *testing.T, w *World, seed uint64, topic *cluster.Topic, ws []*Writer) {
	t.Helper()
	for i := range topic.Partitions {
		part := &topic.Partitions[i]
		var first []got
		for n := range w.nodes {
			all, err := w.ReadAll(uint64(n+1), part, 30e9)
			if err != nil {
				failure(t, w, seed, "partition %d on node %d: %v", i, n+1, err)
			}
			if n == 0 {
				first = all
				checkAcked(t, w, seed, part, ws, all)
				continue
			}
			if fmt.Sprint(all) != fmt.Sprint(first) {
				failure(t, w, seed, "partition %d: node 1 and node %d differ", i, n+1)
			}
		}
	}
}

func checkAcked(t *testing.T, w *World, seed uint64, part *cluster.Partition, ws []*Writer, all []got) {
	t.Helper()
	at := map[string]int64{}
	for i, g := range all {
		if g.offset != int64(i) {
			failure(t, w, seed, "offset %d is followed by %d", i-1, g.offset)
		}
		if old, dup := at[g.value]; dup {
			failure(t, w, seed, "record %q at offsets %d and %d", g.value, old, g.offset)
		}
		at[g.value] = g.offset
	}
	total := 0
	for _, p := range ws {
		if p.part.Group != part.Group {
			continue
		}
		last := int64(-1)
		for _, a := range p.Acked {
			offset, ok := at[string(value(p.id, a.value))]
			if !ok || offset != a.offset {
				failure(t, w, seed, "record %s acknowledged at %d is at %d (there: %t)", value(p.id, a.value), a.offset, offset, ok)
			}
			if offset <= last {
				failure(t, w, seed, "writer %d: offset %d after %d", p.id, offset, last)
			}
			last = offset
			total++
		}
	}
	if total != len(all) {
		failure(t, w, seed, "%d records are there, %d were acknowledged", len(all), total)
	}
}

// Writers go on while brokers lose power one after the other, links break and frames are lost; afterwards nothing is missing.
func TestSimFaults(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		writers := startWriters(w, topic, 300)
		hurtFor(t, w, seed, 30e9)
		finishWriters(t, w, seed, writers)
		checkAll(t, w, seed, topic, writers)
		t.Logf("%+v", w.Counts)
	}
}

// hurtFor lets d ns pass in which brokers and links suffer; then all is well again.
func hurtFor(t *testing.T, w *World, seed uint64, d int64) {
	t.Helper()
	stop := false
	var chaos func()
	chaos = func() {
		if stop {
			return
		}
		hurt(t, w, seed)
		w.After(w.between(200e6, 3e9), chaos)
	}
	chaos()
	w.RunFor(d)
	stop = true
	w.Heal()
	for _, n := range w.nodes {
		boot(t, w, n.id, seed)
	}
}

// hurt does one thing to the cluster.
func hurt(t *testing.T, w *World, seed uint64) {
	n := w.Node(1 + uint64(w.rng.IntN(len(w.nodes))))
	switch w.rng.IntN(6) {
	case 0, 1:
		n.Crash()
	case 2:
		for _, o := range w.nodes {
			boot(t, w, o.id, seed)
		}
	case 3:
		w.Isolate(n.id)
	case 4:
		w.Cut(n.id, w.Node(1+uint64(w.rng.IntN(len(w.nodes)))).id)
	case 5:
		w.Heal()
	}
}
