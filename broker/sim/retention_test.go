package sim

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// startWatch asks every broker again and again where a partition begins, without a read round: on each broker the answer must never go
// back, through any number of power cuts.
type startWatch struct {
	w    *World
	part *cluster.Partition
	at   map[uint64]int64 // by node
	back []string
	saw  func(start int64)
}

func (s *startWatch) run() {
	for _, n := range s.w.nodes {
		asked, floor := n.incarnation, s.at[n.id] // two answers may overtake each other: what was known when it was asked counts
		n.Request(partition.Request{Op: partition.OpListOffset, Which: partition.EarliestOffset, Consistency: partition.Committed, Group: s.part.Group, Deadline: s.w.now + 1e9}, func(r partition.Reply) {
			if r.Err != nil {
				return
			}
			if r.LogStart < floor {
				s.w.Log("BACK: node %d (start %d) shows log start %d after %d", n.id, asked, r.LogStart, floor)
				s.back = append(s.back, s.w.lines[len(s.w.lines)-1])
			}
			s.at[n.id] = max(s.at[n.id], r.LogStart)
			if s.saw != nil {
				s.saw(r.LogStart)
			}
		})
	}
	s.w.After(s.w.between(1e6, 30e6), s.run)
}

// trimmer trims a partition at random places and remembers what it was promised.
type trimmer struct {
	w        *World
	part     *cluster.Partition
	promised int64
	answered int
	stopped  bool
}

func (t *trimmer) run() {
	if t.stopped {
		return
	}
	if l := t.w.Leader(t.part); l != 0 && t.w.Node(l).up {
		high := t.w.Node(l).Replica(t.part.Group).HighWatermark()
		before := partition.TrimAll
		if !t.w.percent(5) {
			before = t.promised + t.w.rng.Int64N(max(1, high-t.promised)/2+1)
		}
		t.w.Node(l).Request(partition.Request{Op: partition.OpTrim, Group: t.part.Group, Offset: before, Deadline: t.w.now + 5e9}, func(r partition.Reply) {
			if r.Err == nil {
				t.answered++
				if r.LogStart < before {
					panic(fmt.Sprintf("trim to %d was answered with log start %d", before, r.LogStart))
				}
				t.promised = max(t.promised, r.LogStart)
			}
		})
	}
	t.w.After(t.w.between(100e6, 2e9), t.run)
}

// sealedFiles are the names and bytes of a group's sealed segments on a broker's disk.
func (n *Node) sealedFiles(t *testing.T, g partition.GroupID) map[string][]byte {
	t.Helper()
	dir := dataDir + "/groups/" + hex.EncodeToString(g[:])
	names, err := n.fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		f, err := n.fs.Open(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
			t.Fatal(err)
		}
		_ = f.Close()
		if size > 128 && bytes.HasPrefix(b[size-128:], []byte("LGFTFOOT")) {
			out[name] = b
		}
	}
	return out
}

// sameSegments wants every broker to keep the same sealed segments of a partition, byte for byte, from the place on where all their logs
// have begun: what was trimmed stays on a broker that gives it to another, and one that was filled may begin later.
func sameSegments(t *testing.T, w *World, seed uint64, part *cluster.Partition) {
	t.Helper()
	from := ""
	for _, n := range w.nodes {
		from = max(from, fmt.Sprintf("%020d.log", w.describe(n.id, part).FirstIndex))
	}
	kept := func(n *Node) map[string][]byte {
		files := n.sealedFiles(t, part.Group)
		maps.DeleteFunc(files, func(name string, _ []byte) bool { return name < from })
		return files
	}
	first := kept(w.nodes[0])
	for _, n := range w.nodes[1:] {
		other := kept(n)
		for name, b := range first {
			if o, ok := other[name]; !ok {
				failure(t, w, seed, "partition %d: node %d keeps %s, node %d does not", part.Number, w.nodes[0].id, name, n.id)
			} else if !bytes.Equal(o, b) {
				failure(t, w, seed, "partition %d: %s differs between nodes %d and %d", part.Number, name, w.nodes[0].id, n.id)
			}
		}
		if len(other) != len(first) {
			failure(t, w, seed, "partition %d: node %d keeps %d sealed segments, node %d %d", part.Number, w.nodes[0].id, len(first), n.id, len(other))
		}
	}
}

// alterSometimes changes the segment size and the timestamp type of a topic now and then.
func alterSometimes(w *World, name string, stopped *bool) {
	if *stopped {
		return
	}
	n := w.Node(1 + uint64(w.rng.IntN(len(w.nodes))))
	if n.up {
		set := []cluster.ConfigEntry{{Key: "segment.bytes", Value: fmt.Sprint(4 << 10 << w.rng.IntN(3))}, {Key: "message.timestamp.type", Value: []string{"CreateTime", "LogAppendTime"}[w.rng.IntN(2)]}}
		n.Request(partition.Request{Op: partition.OpPropose, Group: n.parts.MetaGroup, Deadline: w.now + 2e9,
			Command: cluster.EncodeAlterTopic(cluster.AlterTopic{RequestID: w.requestID(), Name: name, Set: set})}, func(partition.Reply) {})
	}
	w.After(w.between(500e6, 3e9), func() { alterSometimes(w, name, stopped) })
}

// Records are given up while brokers lose power, links break and the topic's settings change: what a trim was answered holds from then
// on; no broker ever shows again what it had given up, not even after a power cut; every replica ends with the same log start and the
// same files, and nothing at or above the log start is missing.
func TestSimTrim(t *testing.T) {
	trims := 0
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		writers := startWriters(w, topic, 300)
		part := &topic.Partitions[0]
		watch := &startWatch{w: w, part: part, at: map[uint64]int64{}}
		watch.run()
		trim := &trimmer{w: w, part: part}
		trim.run()
		stopped := false
		alterSometimes(w, topic.Name, &stopped)
		hurtFor(t, w, seed, 30e9)
		finishWriters(t, w, seed, writers)
		trim.stopped, stopped = true, true
		w.RunFor(20e9)
		trims += trim.answered
		if len(watch.back) > 0 {
			failure(t, w, seed, "%d log starts went back, the first: %s", len(watch.back), watch.back[0])
		}
		var start int64
		for _, n := range w.nodes {
			if s := watch.at[n.id]; start == 0 {
				start = s
			} else if s != start {
				failure(t, w, seed, "node %d shows log start %d, another %d", n.id, s, start)
			}
		}
		if start < trim.promised {
			failure(t, w, seed, "log start %d, a trim was answered with %d", start, trim.promised)
		}
		checkFrom(t, w, seed, part, writers, start)
		for i := range topic.Partitions {
			sameSegments(t, w, seed, &topic.Partitions[i])
		}
	}
	t.Logf("%d trims", trims)
	if trims < 2*len(seeds(t)) {
		t.Errorf("%d trims: too gentle", trims)
	}
}

// checkFrom reads a partition from its log start on every broker: the copies are equal, and each acknowledged record at or above the
// log start is at its offset.
func checkFrom(t *testing.T, w *World, seed uint64, part *cluster.Partition, ws []*Writer, start int64) {
	t.Helper()
	var first []got
	for _, n := range w.nodes {
		all, err := w.ReadFrom(n.id, part, start, 30e9)
		if err != nil {
			failure(t, w, seed, "node %d: %v", n.id, err)
		}
		if first == nil {
			first = all
		} else if !slices.Equal(all, first) {
			failure(t, w, seed, "node %d has other records from %d on", n.id, start)
		}
	}
	at := map[string]int64{}
	for i, g := range first {
		if g.offset != start+int64(i) {
			failure(t, w, seed, "offset %d where %d is next", g.offset, start+int64(i))
		}
		at[g.value] = g.offset
	}
	for _, p := range ws {
		for _, a := range p.Acked {
			if p.part.Group != part.Group || a.offset < start {
				continue
			}
			if offset, ok := at[string(value(p.id, a.value))]; !ok || offset != a.offset {
				failure(t, w, seed, "record %s acknowledged at %d is at %d (there: %t)", value(p.id, a.value), a.offset, offset, ok)
			}
		}
	}
}

// One broker's clock, or two in opposite directions, jump by an hour again and again while a topic keeps its records for a minute: no
// record goes before its minute is over; and each is gone after twice of it, as long as three clocks are heard.
func TestSimRetentionUnderClockJumps(t *testing.T) {
	const keep = int64(60e9)
	went := int64(0)
	for _, seed := range seeds(t)[:min(4, len(seeds(t)))] {
		t.Logf("seed %d", seed)
		crashes := seed%2 == 0
		w, _ := newCluster(t, DefaultOptions(seed))
		topic, err := w.CreateTopic("short", 1, 3, cluster.ConfigEntry{Key: "retention.ms", Value: fmt.Sprint(keep / 1e6)})
		if err != nil {
			failure(t, w, seed, "create: %v", err)
		}
		part := &topic.Partitions[0]
		var acked []int64 // time by offset; -1: not acknowledged
		var fire func()
		writing := true
		fire = func() {
			if !writing {
				return
			}
			s := shoot(w, part, strings.Repeat("x", 200))
			w.After(2e9, func() {
				if s.reply != nil && s.reply.Err == nil {
					for int64(len(acked)) <= s.offset {
						acked = append(acked, -1)
					}
					acked[s.offset] = w.now - 2e9 // it was appended after this
				}
			})
			w.After(w.between(100e6, 2e9), fire)
		}
		fire()
		sane := make([]int64, len(w.nodes))
		for i, n := range w.nodes {
			sane[i] = n.clock.offset
		}
		var jump func()
		heal := func() { // long enough before the next jump that no mad clock is remembered
			for i, n := range w.nodes {
				n.clock.offset = sane[i]
			}
			w.After(6e9, jump)
		}
		jump = func() {
			a := w.rng.IntN(len(w.nodes))
			b := (a + 1 + w.rng.IntN(len(w.nodes)-1)) % len(w.nodes)
			ms := []int64{3_600_000, -3_600_000}[w.rng.IntN(2)]
			w.nodes[a].clock.offset += ms
			if w.percent(50) {
				w.nodes[b].clock.offset -= ms
			}
			w.Log("clocks: node %d by %d ms", w.nodes[a].id, ms)
			if l := w.Leader(part); l != 0 && crashes && w.percent(50) {
				w.Node(l).Crash()
				w.After(3e9, func() { boot(t, w, l, seed) })
			}
			w.After(w.between(5e9, 20e9), heal)
		}
		jump()
		early := ""
		watch := &startWatch{w: w, part: part, at: map[uint64]int64{}}
		watch.saw = func(start int64) {
			went = max(went, start)
			if start == 0 || start > int64(len(acked)) || acked[start-1] < 0 {
				return
			}
			// The clocks of sane brokers are half a second off at most.
			if age := w.now - acked[start-1]; age < keep-1500e6 && early == "" {
				early = fmt.Sprintf("record %d is gone after %d ms", start-1, age/1e6)
			}
		}
		watch.run()
		w.RunFor(240e9)
		writing = false
		w.RunFor(2*keep + 60e9)
		if early != "" {
			failure(t, w, seed, "%s; the topic keeps them for %d ms", early, keep/1e6)
		}
		if len(watch.back) > 0 {
			failure(t, w, seed, "%s", watch.back[0])
		}
		// With one broker down, the two others may contradict each other: then records live longer, never shorter.
		if n := watch.at[1]; n < int64(len(acked)) && !crashes {
			failure(t, w, seed, "log start is %d, but everything before %d is older than twice its time", n, len(acked))
		}
	}
	if went < 50 {
		t.Errorf("only %d records went: too gentle", went)
	}
}
