package sim

import (
	"sort"

	"lograft/raft"
)

// elected: one leader per term, and it holds every entry that the leader of an earlier term committed. A candidate that slept may win its
// term when a later one has committed entries of terms before it: those it need not hold (Raft paper §5.4.3).
func (k *checker) elected(n *node, bs *raft.BasicStatus) {
	term := bs.HardState.Term
	if other, ok := k.leaders[term]; ok && other != n.id {
		k.fail("one leader per term", "nodes %d and %d lead term %d", other, n.id, term)
		return
	}
	k.leaders[term] = n.id
	k.c.stats.Elections++
	k.c.trace.note(k.c.now, n.id, "leads", term, bs.LastIndex)
	older := sort.Search(len(k.committed), func(i int) bool { return k.committed[i].by >= term })
	if older == 0 {
		return
	}
	index := uint64(older)
	if bs.LastIndex < index {
		k.fail("leader completeness", "node %d leads term %d with last index %d, committed is %d", n.id, term, bs.LastIndex, index)
		return
	}
	if t, ok := n.disk.seen.term(index); ok && t != k.committed[older-1].term {
		k.fail("leader completeness", "node %d leads term %d with term %d at committed index %d of term %d",
			n.id, term, t, index, k.committed[older-1].term)
	}
}
