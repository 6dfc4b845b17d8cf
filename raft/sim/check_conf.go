package sim

import (
	"fmt"
	"slices"

	"lograft/raft"
)

func confString(cs raft.ConfState) string {
	sorted := func(ids []uint64) []uint64 {
		s := slices.Clone(ids)
		slices.Sort(s)
		return s
	}
	return fmt.Sprintf("%v %v %v %v %t", sorted(cs.Voters), sorted(cs.Learners), sorted(cs.VotersOutgoing), sorted(cs.LearnersNext), cs.AutoLeave)
}

// confApplied: a conf change has one outcome, the same on every replica.
func (k *checker) confApplied(n *node, index uint64, cs raft.ConfState, err error) {
	got := "refused"
	if err == nil {
		got = confString(cs)
	}
	if old, ok := k.confs[index]; ok && old != got {
		k.fail("configurations equal", "node %d: index %d gives %s, elsewhere %s", n.id, index, got, old)
		return
	} else if ok {
		return
	}
	k.confs[index] = got
	k.c.stats.ConfChanges++
	switch {
	case err != nil:
		k.c.stats.ConfRefused++
		return
	case len(cs.VotersOutgoing) > 0:
		k.c.stats.JointChanges++
	}
	k.c.confIndex, k.c.conf = index, cloneConf(cs)
}
