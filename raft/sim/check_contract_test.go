package sim

import (
	"testing"

	"lograft/raft"
)

// A pre-vote request of an earlier round may leave after a leader has replaced the log that it claims, and a new round about the same term has
// begun: what is on the platter is worth more. One that claims more than the platter holds fails. Found by seed 1753730853452817.
func TestStalePreVoteClaimsLess(t *testing.T) {
	for claim, fails := range map[[2]uint64]bool{{22, 66}: false, {25, 2}: false, {25, 3}: true, {26, 3}: true} {
		c := &cluster{}
		c.check = newChecker(c)
		n := newNode(c, 1)
		n.view.role = raft.StatePreCandidate
		n.disk.safe.hs.Term = 25
		n.disk.safe.ents = []raft.Entry{{Index: 1, Term: 22}, {Index: 2, Term: 25}}
		c.check.sent(n, &raft.Message{Type: raft.MsgRequestPreVote, From: 1, To: 2, Term: 26, LogTerm: claim[0], Index: claim[1]})
		if (c.err != nil) != fails {
			t.Errorf("claim of term %d, index %d: %v", claim[0], claim[1], c.err)
		}
	}
}
