// Package quorum counts: which index a majority holds, and who won an election. Pure functions over small slices; nothing here
// knows what a log or a message is.
package quorum

import "math"

// Everything is what a configuration without voters agrees to: it never limits the other half of a joint one.
const Everything = math.MaxUint64

// Majority is the least number of n voters that is more than half of them.
func Majority(n int) int { return n/2 + 1 }

// Committed is the highest value that a majority of the voters has reached; acked holds one value per voter and is sorted in place.
// No voters: Everything. (Raft paper §5.3, §5.4.2.)
func Committed(acked []uint64) uint64 {
	if len(acked) == 0 {
		return Everything
	}
	insertionSort(acked)
	return acked[len(acked)-Majority(len(acked))]
}

// JointCommitted is what both halves of a joint configuration have reached (Raft dissertation §4.3). Both slices are sorted in place.
func JointCommitted(incoming, outgoing []uint64) uint64 {
	return min(Committed(incoming), Committed(outgoing))
}

// insertionSort sorts ascending; voters are few and nearly sorted, and nothing may be allocated.
func insertionSort(a []uint64) {
	for i := 1; i < len(a); i++ {
		for j := i; j > 0 && a[j] < a[j-1]; j-- {
			a[j], a[j-1] = a[j-1], a[j]
		}
	}
}

// Acked is a voter's index and the commit group that it belongs to (0: none).
type Acked struct {
	Index, Group uint64
}

// GroupCommitted is Committed under group commit as raft-rs defines it: the majority's index, but not beyond what at least two
// commit groups hold. grouped says that two groups were found; without that, and with a voter that has no group, the lowest index
// of all is the answer. acked is sorted in place, highest index first.
func GroupCommitted(acked []Acked) (index uint64, grouped bool) {
	if len(acked) == 0 {
		return Everything, true
	}
	for i := 1; i < len(acked); i++ {
		for j := i; j > 0 && acked[j].Index > acked[j-1].Index; j-- {
			acked[j], acked[j-1] = acked[j-1], acked[j]
		}
	}
	at := acked[Majority(len(acked))-1]
	group, single := at.Group, true
	for _, a := range acked {
		switch {
		case a.Group == 0:
			single = false
		case group == 0:
			group = a.Group
		case group != a.Group:
			return min(a.Index, at.Index), true
		}
	}
	if single {
		return at.Index, false
	}
	return acked[len(acked)-1].Index, false
}

// VoteResult is the state of an election.
type VoteResult uint8

// VotePending: votes are missing that could decide it.
const (
	VotePending VoteResult = iota
	VoteLost
	VoteWon
)

// Vote is the result of an election with this many voters. No voters: won, so that a half that is not there does not matter.
func Vote(voters, granted, rejected int) VoteResult {
	need := Majority(voters)
	switch {
	case voters == 0 || granted >= need:
		return VoteWon
	case voters-rejected < need:
		return VoteLost
	}
	return VotePending
}

// JointVote is won if both halves are won and lost if either is lost.
func JointVote(incoming, outgoing VoteResult) VoteResult {
	switch {
	case incoming == VoteLost || outgoing == VoteLost:
		return VoteLost
	case incoming == VoteWon && outgoing == VoteWon:
		return VoteWon
	}
	return VotePending
}
