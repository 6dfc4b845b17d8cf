package sim

import (
	"lograft/raft"
)

// birth: every disk begins with a snapshot at index 1, term 1.
const (
	birthTerm  = 1
	birthIndex = 1
	birthChain = 0x10617af7
)

type entryKey struct{ term, index uint64 }

// matchRecord is what is known of an entry anywhere: its hash and the term of
// the entry before it. Equal records for equal keys make, by induction, equal
// logs up to that entry.
type matchRecord struct{ hash, prevTerm uint64 }

type commitRecord struct {
	term uint64
	hash uint64 // 0: not applied anywhere yet
	by   uint64 // term of the leader that committed it
}

func (k *checker) top() uint64 { return uint64(len(k.committed)) }

func (k *checker) match(where string, prevTerm uint64, ents []raft.Entry) {
	for i := range ents {
		key := entryKey{ents[i].Term, ents[i].Index}
		rec := matchRecord{hashEntry(&ents[i]), prevTerm}
		if old, ok := k.matching[key]; !ok {
			k.matching[key] = rec
		} else if old != rec {
			k.fail("log matching", "%s: index %d term %d differs from what is elsewhere (previous term %d, %d)",
				where, key.index, key.term, prevTerm, old.prevTerm)
			return
		}
		prevTerm = ents[i].Term
	}
}

// durable: entries that reached a platter can be met again.
func (k *checker) durable(n *node, ents []raft.Entry) {
	if len(ents) == 0 {
		return
	}
	if prev, ok := n.disk.safe.term(ents[0].Index - 1); ok {
		k.match("disk", prev, ents)
	}
}

// commitRose: only a leader may raise what the cluster knows as committed, and
// only to what is on the platters of a quorum, of both halves when joint.
func (k *checker) commitRose(n *node, was *view, bs *raft.BasicStatus) {
	commit := bs.HardState.Commit
	if commit <= k.top() {
		return // applied compares the entries
	}
	leads := bs.SoftState.RaftState == raft.StateLeader
	led := was.started && was.role == raft.StateLeader
	if !leads && !led {
		k.fail("committed", "node %d: commit %d as %v; no leader committed more than %d", n.id, commit, bs.SoftState.RaftState, k.top())
		return
	}
	by := bs.HardState.Term
	if !leads {
		by = was.term
	}
	for i := k.top() + 1; i <= commit; i++ {
		t, ok := n.disk.seen.term(i)
		if !ok {
			k.fail("committed", "leader %d: commit %d, index %d is not in its storage", n.id, commit, i)
			return
		}
		k.committed = append(k.committed, commitRecord{term: t, by: by})
		k.chains = append(k.chains, 0)
	}
	k.c.stats.Committed = max(k.c.stats.Committed, commit)
	conf := n.raw.Status().Conf
	if !k.quorumHolds(conf.Voters, commit) || !k.quorumHolds(conf.VotersOutgoing, commit) {
		k.fail("durable on a quorum", "leader %d commits %d (term %d) in %v; on platters: %v", n.id, commit,
			k.committed[commit-1].term, conf, k.holders(commit))
	}
}

func (k *checker) holds(n *node, index uint64) bool {
	if index <= n.disk.safe.base {
		return true
	}
	t, ok := n.disk.safe.term(index)
	return ok && t == k.committed[index-1].term
}

func (k *checker) holders(index uint64) (ids []uint64) {
	for _, n := range k.c.nodes[1:] {
		if n.started && k.holds(n, index) {
			ids = append(ids, n.id)
		}
	}
	return ids
}

func (k *checker) quorumHolds(ids []uint64, index uint64) bool {
	if len(ids) == 0 {
		return true
	}
	have := 0
	for _, id := range ids {
		if n := k.c.nodes[id]; n.started && k.holds(n, index) {
			have++
		}
	}
	return have > len(ids)/2
}

// applied: every node applies the same entry at an index, without a gap.
func (k *checker) applied(n *node, e *raft.Entry) {
	if e.Index > k.top() {
		k.fail("applied", "node %d applies %d, committed is %d", n.id, e.Index, k.top())
		return
	}
	rec := &k.committed[e.Index-1]
	h := hashEntry(e)
	if rec.term != e.Term || rec.hash != 0 && rec.hash != h {
		k.fail("applied sequences equal", "node %d applies term %d at index %d, others term %d", n.id, e.Term, e.Index, rec.term)
		return
	}
	rec.hash = h
	if len(e.Data) > 0 && k.refused[string(e.Data)] {
		k.fail("refused means refused", "node %d applies index %d, whose proposal got an error", n.id, e.Index)
		return
	}
	k.chain(n, e.Index)
}

func (k *checker) chain(n *node, index uint64) {
	switch known := k.chains[index-1]; known {
	case 0:
		k.chains[index-1] = n.sm.chain
	case n.sm.chain:
	default:
		k.fail("applied sequences equal", "node %d: another history up to index %d", n.id, index)
	}
}

// installed: a snapshot is a state that others had, with their configuration.
func (k *checker) installed(n *node, s *raft.Snapshot) {
	if s.Metadata.Index > k.top() || k.committed[s.Metadata.Index-1].term != s.Metadata.Term {
		k.fail("committed", "node %d installs snapshot %d/%d, committed is %d", n.id, s.Metadata.Term, s.Metadata.Index, k.top())
		return
	}
	k.chain(n, s.Metadata.Index)
	if cs := n.raw.Status().Conf; confString(cs) != confString(n.sm.conf) {
		k.fail("configurations equal", "node %d: snapshot has %v, core has %v", n.id, n.sm.conf, cs)
	}
}
