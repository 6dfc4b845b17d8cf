package sim

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/segment"
	"lograft/segment/journal"
)

// groupPath is where a broker keeps a group's files.
func groupPath(g partition.GroupID) string {
	return path.Join(dataDir, "groups", hex.EncodeToString(g[:]))
}

// promised is what a stopped broker's journal says of a group.
func (n *Node) promised(t *testing.T, g partition.GroupID) (st journal.GroupState) {
	t.Helper()
	j, loaded, err := n.openJournal()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range loaded.Groups {
		if s.Birth.Group == g {
			st = s
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return st
}

// stableBytes are the files of a group's log on a stopped broker, oldest first, with the number of bytes of each that a persist mark
// covers: a flip in them can't be taken for a torn write.
func (n *Node) stableBytes(t *testing.T, g partition.GroupID) (files []string, sizes []int64) {
	t.Helper()
	mark := n.promised(t, g).Mark
	names, err := n.fs.List(groupPath(g))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var base uint64
		if _, err := fmt.Sscanf(name, "%d.log", &base); err != nil || !strings.HasSuffix(name, ".log") || base > mark.SegmentBase {
			continue
		}
		size, _, err := n.fs.Stat(path.Join(groupPath(g), name))
		if err != nil {
			t.Fatal(err)
		}
		if base == mark.SegmentBase {
			size = min(size, mark.Position)
		}
		files, sizes = append(files, path.Join(groupPath(g), name)), append(sizes, size)
	}
	return files, sizes
}

// flip turns a random bit of every byte whose position, counted over all stable bytes of the group, is wanted.
func (n *Node) flip(t *testing.T, g partition.GroupID, wanted func(at int64) bool) (flips int) {
	t.Helper()
	files, sizes := n.stableBytes(t, g)
	at := int64(0)
	for i, name := range files {
		for off := range sizes[i] {
			if off >= segmentHead && wanted(at+off) {
				if err := n.fs.Corrupt(name, off, 1<<n.w.rng.IntN(8)); err != nil {
					t.Fatal(err)
				}
				flips++
			}
		}
		at += sizes[i]
	}
	n.w.Log("node %d: %d bits of group %x turned", n.id, flips, g[:2])
	return flips
}

// healed waits until no broker knows of damage any more and all hold the same entries.
func healed(t *testing.T, w *World, seed uint64, topic *cluster.Topic) {
	t.Helper()
	why := ""
	whole := func() bool {
		for i := range topic.Partitions {
			g := topic.Partitions[i].Group
			for _, n := range w.nodes {
				r := n.Replica(g)
				if r == nil || len(r.Damaged()) > 0 {
					why = fmt.Sprintf("node %d group %x: %v", n.id, g[:2], r)
					if r != nil {
						why = fmt.Sprintf("node %d group %x: %v", n.id, g[:2], r.Damaged())
					}
					return false
				}
				if first := w.nodes[0].Replica(g); r.Applied() != first.Applied() {
					why = fmt.Sprintf("node %d group %x applied %d, node 1 %d", n.id, g[:2], r.Applied(), first.Applied())
					return false
				}
			}
		}
		return true
	}
	if !w.RunUntil(120e9, whole) {
		failure(t, w, seed, "not whole after 120 s: %s", why)
	}
}

// sameFiles stops every broker, opens its logs anew, checks every byte of them, and compares the sealed segments.
func sameFiles(t *testing.T, w *World, seed uint64, topic *cluster.Topic) {
	t.Helper()
	for i := range topic.Partitions {
		g := topic.Partitions[i].Group
		sums := map[uint64]segment.SegmentSummary{}
		for _, n := range w.nodes {
			st := n.promised(t, g)
			l, rec, err := segment.Open(segment.Options{FS: n.fs.Synced(), Dir: groupPath(g), Group: segment.GroupID(g), Start: segment.Start{Index: 1, Term: 1},
				SegmentBytes: w.opts.SegmentBytes, Mark: segment.Mark(st.Mark), CommitFloor: st.HardState.Commit, Snapshot: segment.SnapshotMark(st.Snapshot)})
			if err != nil {
				failure(t, w, seed, "node %d group %x: %v", n.id, g[:2], err)
			}
			if err := l.Verify(); err != nil || rec.FilesBad > 0 {
				failure(t, w, seed, "node %d group %x: %d bad files, verify: %v", n.id, g[:2], rec.FilesBad, err)
			}
			sealed := l.Sealed(0)
			for _, f := range sealed {
				if old, ok := sums[f.Base]; ok && old != f {
					failure(t, w, seed, "sealed segment %d of node %d is %+v, another node's %+v", f.Base, n.id, f, old)
				}
				sums[f.Base] = f
			}
			if lasts := l.ClosedLasts(); len(lasts) > 0 && len(sealed) > 0 && lasts[0] < sealed[len(sealed)-1].Last {
				failure(t, w, seed, "node %d group %x: the segment up to entry %d was sealed once and is not any more", n.id, g[:2], lasts[0])
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// readThrough reads every partition on every broker until each answers without damage: what is damaged is refused there, found and
// repaired.
func readThrough(t *testing.T, w *World, seed uint64, topic *cluster.Topic) {
	t.Helper()
	for i := range topic.Partitions {
		for _, n := range w.nodes {
			var err error
			for range 400 {
				if _, err = w.ReadAll(n.id, &topic.Partitions[i], 30e9); err == nil {
					break
				}
				if !strings.Contains(err.Error(), string(partition.ReasonFaulty)) {
					failure(t, w, seed, "partition %d on node %d: %v", i, n.id, err)
				}
				w.RunFor(50e6)
			}
			if err != nil {
				failure(t, w, seed, "partition %d on node %d: %v", i, n.id, err)
			}
		}
	}
}

// quiet lets all brokers seal what is full and mark what is synced.
func quiet(w *World) { w.RunFor(3e9) }

// One broker loses power and comes back with turned bits in sealed and active segments, while the writers go on. It repairs them from
// the others: nothing acknowledged is missing anywhere, and the files are the same bytes.
func TestSimDamageOneBroker(t *testing.T) {
	damages, repairs := 0, 0
	all := seeds(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		writers := startWriters(w, topic, 400)
		for range 3 {
			w.RunFor(w.between(1e9, 3e9))
			n := w.Node(1 + uint64(w.rng.IntN(3)))
			n.Crash()
			for i := range topic.Partitions {
				// About one bit in 2 KiB; each flip by itself, so that all kinds of places are hit.
				n.flip(t, topic.Partitions[i].Group, func(int64) bool { return w.rng.IntN(2048) == 0 })
			}
			boot(t, w, n.id, seed)
			w.RunFor(2e9)
			readThrough(t, w, seed, topic)
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
		damages, repairs = damages+w.Counts.Damages, repairs+w.Counts.Repairs
	}
	if repairs < len(all) || damages < len(all) {
		t.Errorf("%d damaged ranges and %d repairs in %d runs: too gentle to prove anything", damages, repairs, len(all))
	}
	t.Logf("%d damaged ranges found, %d repaired", damages, repairs)
}

// All brokers lose power at once, and every chunk of the log is damaged on exactly one of them: nobody has a whole log, together they
// do. Nobody may lead before it is whole again, so the repair needs no leader.
func TestSimDamageSpread(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		writers := startWriters(w, topic, 300)
		finishWriters(t, w, seed, writers)
		healed(t, w, seed, topic)
		quiet(w)
		for _, n := range w.nodes {
			n.Crash()
		}
		const chunk = 512
		for i := range topic.Partitions {
			g := topic.Partitions[i].Group
			for k, n := range w.nodes {
				next := int64(-1)
				n.flip(t, g, func(at int64) bool {
					if at/chunk%int64(len(w.nodes)) != int64(k) {
						return false
					}
					if next < at/chunk*chunk {
						next = at/chunk*chunk + w.rng.Int64N(chunk)
					}
					return at == next
				})
			}
		}
		for _, n := range w.nodes {
			boot(t, w, n.id, seed)
		}
		readThrough(t, w, seed, topic)
		checkAll(t, w, seed, topic, writers)
		healed(t, w, seed, topic)
		quiet(w)
		for _, n := range w.nodes {
			n.stop()
		}
		sameFiles(t, w, seed, topic)
		if w.Counts.Repairs == 0 {
			failure(t, w, seed, "nothing was repaired")
		}
	}
}
