package sim

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"lograft/broker/partition"
	"lograft/segment"
	"lograft/segment/vfs"
)

// loseEnd takes the newest file of a stopped broker's log away, the seal of the one before it and that one's last entry, which is returned
// with the offset behind it. ok is false if there are not enough files.
func (n *Node) loseEnd(t *testing.T, g partition.GroupID) (last uint64, next int64, ok bool) {
	t.Helper()
	logs := n.logsOf(t, g)
	if len(logs) < 3 {
		return 0, 0, false
	}
	name := logs[len(logs)-2]
	var at, end int64
	err := segment.Inspect(n.fs, groupPath(g), func(base uint64, position int64, f segment.Frame) error {
		if path.Base(name) == fmt.Sprintf("%020d.log", base) {
			at, last, next = position, f.Index, f.NextOffset()
			end = position + frameHead + int64(len(f.Payload))
		}
		return nil
	}, func(segment.Info) error { return nil })
	if err == nil {
		err = errors.Join(n.fs.Remove(logs[len(logs)-1]), n.fs.Corrupt(name, at+20, 1))
	}
	if state := strings.TrimSuffix(name, ".log") + ".state"; err == nil {
		if err = n.fs.Remove(state); vfs.IsNotExist(err) {
			err = nil
		}
	}
	if err == nil {
		var f vfs.File
		if f, err = n.fs.OpenRW(name); err == nil {
			err = errors.Join(f.Truncate(end), f.Sync(), f.Close(), n.fs.SyncDir(groupPath(g)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return last, next, true
}

const frameHead = 48

// The end of a follower's log is lost while it is down: its newest file, and the last entry of the one before, which all others give up
// meanwhile. Nobody has that entry any more, and what the leader sends continues it: the follower asks for a snapshot in the place of its
// log, and is as whole as the others in the end. Found by TestSimSeeds, seed 1795791296285480082 on a73fd33.
func TestSimEndGivenUp(t *testing.T) {
	given := 0
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, fillOptions(seed))
		writers := startWriters(w, topic, 300)
		w.RunFor(4e9)
		part := &topic.Partitions[0]
		n := w.Node(leaderOf(w, part)%3 + 1)
		n.Crash()
		last, next, ok := n.loseEnd(t, part.Group)
		if !ok {
			continue
		}
		w.Log("node %d: entry %d and all behind it are lost", n.id, last)
		gone := w.RunUntil(20e9, func() bool {
			l := w.Leader(part)
			if l == 0 || !w.Node(l).up {
				return false
			}
			w.Node(l).Request(partition.Request{Op: partition.OpTrim, Group: part.Group, Offset: next, Deadline: w.now + 1e9}, func(partition.Reply) {})
			w.RunFor(200e6)
			return w.Node(l).up && w.describe(l, part).FirstIndex > last
		})
		if !gone {
			failure(t, w, seed, "the others did not give up what ends with entry %d", last)
		}
		given++
		boot(t, w, n.id, seed)
		w.RunFor(1e9)
		healed(t, w, seed, topic)
		finishWriters(t, w, seed, writers)
		healed(t, w, seed, topic)
		checkFrom(t, w, seed, part, writers, w.describe(leaderOf(w, part), part).LogStart)
	}
	if given == 0 {
		t.Error("no log was long enough")
	}
}
