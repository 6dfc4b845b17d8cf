package sim

import (
	"testing"

	"lograft/raft"
)

// A leader must hold what leaders of earlier terms committed, not what a later one did before a candidate that slept won its own term: seed
// 1753723295049608 was red over entries of term 6 that the leader of term 9 had committed before that of term 8 came.
func TestLateLeaderNeedNotHoldWhatALaterOneCommitted(t *testing.T) {
	for by, fails := range map[uint64]bool{6: true, 7: true, 8: false, 9: false} {
		c := &cluster{}
		c.check = newChecker(c)
		c.check.committed = append(c.check.committed, commitRecord{term: 6, by: by})
		c.check.elected(newNode(c, 4), &raft.BasicStatus{HardState: raft.HardState{Term: 8}, LastIndex: 1})
		if (c.err != nil) != fails {
			t.Errorf("entry of term 6, committed by the leader of term %d, that of term 8 lacks it: %v", by, c.err)
		}
	}
}
