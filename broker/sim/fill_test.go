package sim

import (
	"strings"
	"testing"

	"lograft/broker/partition"
)

// fillOptions are DefaultOptions under which a replica that misses 8 KiB is sent files.
func fillOptions(seed uint64) Options {
	o := DefaultOptions(seed)
	o.SegmentBytes = 4 << 10
	o.TailCacheBytes, o.CatchUpBytes, o.MessageBytes = 4<<10, 8<<10, 2<<10
	o.FillBytesPerTick = 24 << 10
	return o
}

// A broker is cut off while the others write on, and comes back far behind: it is filled with sealed segments, then with entries, while
// the writers go on. Either end loses power on the way. Afterwards all files are the same bytes and nothing acknowledged is missing.
func TestSimFillBehind(t *testing.T) {
	fills, installs := 0, 0
	all := seeds(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, fillOptions(seed))
		writers := startWriters(w, topic, 2000)
		w.RunFor(500e6)
		for round := range 3 {
			victim := 1 + uint64(w.rng.IntN(3))
			w.Isolate(victim)
			w.RunFor(w.between(1500e6, 3e9))
			w.Heal()
			if round > 0 {
				// A power cut at a moment of the fill, of the one that is filled or of another.
				before := w.Counts.Fills
				w.RunUntil(8e9, func() bool { return w.Counts.Fills > before })
				w.RunFor(w.between(0, 600e6))
				hit := 1 + uint64(w.rng.IntN(3))
				if w.rng.IntN(2) == 0 {
					hit = victim
				}
				w.Node(hit).Crash()
				w.RunFor(w.between(100e6, 1e9))
				boot(t, w, hit, seed)
			}
			healed(t, w, seed, topic)
		}
		finishWriters(t, w, seed, writers)
		checkAll(t, w, seed, topic, writers)
		healed(t, w, seed, topic)
		quiet(w)
		for _, n := range w.nodes {
			n.stop()
		}
		sameFiles(t, w, seed, topic)
		fills, installs = fills+w.Counts.Fills, installs+w.Counts.Installs
	}
	t.Logf("%d fills, %d installs", fills, installs)
	if installs < len(all) {
		t.Errorf("%d fills and %d installs in %d runs: too gentle to prove anything", fills, installs, len(all))
	}
}

// What a snapshot's receiver was sent is kept for it also when it is trimmed; but soon after nobody asks any more, the files go.
func TestSimTrimmedFilesGoAfterAFill(t *testing.T) {
	seed := seeds(t)[0]
	t.Logf("seed %d", seed)
	w, topic := newCluster(t, fillOptions(seed))
	part := &topic.Partitions[0]
	writers := startWriters(w, topic, 2000)
	w.RunFor(500e6)
	w.Isolate(1)
	w.RunFor(4e9)
	w.Heal()
	if !w.RunUntil(20e9, func() bool { return w.Counts.Installs > 0 }) {
		t.Fatal("node 1 was not filled")
	}
	finishWriters(t, w, seed, writers)
	healed(t, w, seed, topic)
	files := func() (most int) {
		for _, n := range w.nodes {
			names, err := n.segments(part.Group)
			if err != nil {
				t.Fatal(err)
			}
			logs := 0
			for name := range names {
				if strings.HasSuffix(name, ".log") {
					logs++
				}
			}
			most = max(most, logs)
		}
		return most
	}
	w.Node(w.Leader(part)).Request(partition.Request{Op: partition.OpTrim, Group: part.Group, Offset: partition.TrimAll, Deadline: w.now + 5e9}, func(partition.Reply) {})
	w.RunFor(10e9)
	if n := files(); n < 5 {
		t.Fatalf("%d segments: nothing is kept for the one that was filled, so this shows nothing", n)
	}
	w.RunFor(60e9)
	if n := files(); n > 2 {
		t.Errorf("%d segments are left a minute after everything was trimmed", n)
	}
}
