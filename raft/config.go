package raft

import (
	"errors"
	"fmt"
)

// ReadOnlyOption selects how a leader confirms a ReadIndex.
type ReadOnlyOption uint8

// ReadOnlySafe asks a quorum. ReadOnlyLeaseBased answers at once while the lease holds (see doc.go for what that assumes about
// clocks) and asks a quorum otherwise.
const (
	ReadOnlySafe ReadOnlyOption = iota
	ReadOnlyLeaseBased
)

// Config of a node. DefaultConfig documents every value.
type Config struct {
	ID                                                                                               uint64
	ElectionTick, HeartbeatTick                                                                      int
	MinElectionTick, MaxElectionTick                                                                 int    // 0: [ElectionTick, 2*ElectionTick)
	Applied                                                                                          uint64 // may exceed the commit index after a crash
	MaxSizePerMsg                                                                                    uint64 // bytes of entries in one message; 0: one entry
	MaxInflightMsgs                                                                                  int
	MaxInflightBytes                                                                                 uint64 // 0: no limit
	MaxUncommittedSize, MaxCommittedSizePerReady                                                     uint64 // 0: no limit
	MaxApplyUnpersistedLogLimit                                                                      uint64 // entries; 0: nothing is applied before it is persisted
	CheckQuorum, PreVote, SkipBcastCommit, BatchAppend, DisableProposalForwarding, StepDownOnRemoval bool
	QuietCommits                                                                                     bool // empty appends that tell a commit index want no answer
	EagerElections                                                                                   bool // an election without a winner is tried again in a tick or two (eager.go)
	ReadOnlyOption                                                                                   ReadOnlyOption
	LeaseMarginTick                                                                                  int
	Priority                                                                                         int64
	SnapshotTimeoutTick                                                                              int
	Rand                                                                                             func(n int) int // 0 <= result < n; required
	Tracer                                                                                           Tracer          // nil: none
}

// Tracer is told what the core does. It never decides anything.
type Tracer interface {
	Trace(Event)
}

// Event is one thing that a node did.
type Event struct {
	Kind        string // "become_follower", "become_leader", "commit", "vote", ...
	Node        uint64
	Term, Index uint64
	Peer        uint64
	Detail      string
}

// Defaults of DefaultConfig.
const (
	defaultElectionTick    = 10
	defaultHeartbeatTick   = 1
	defaultSizePerMsg      = 1 << 20
	defaultInflightMsgs    = 256
	defaultInflightBytes   = 16 << 20
	defaultUncommittedSize = 64 << 20
	defaultCommittedSize   = 16 << 20
)

// DefaultConfig is a sound configuration but for Rand, which the app must give:
// elections after 10 to 20 ticks without a leader, a heartbeat each tick, messages of up to 1 MiB, windows of 256 messages and 16 MiB
// per peer, 64 MiB uncommitted, 16 MiB per Ready to apply, nothing applied before it is persisted, pre-vote, check-quorum and
// step-down on removal on, safe reads, a lease margin of 2 ticks should leases be chosen, peers freed from an unreported snapshot after
// 100 ticks.
func DefaultConfig(id uint64) Config {
	return Config{
		ID: id, ElectionTick: defaultElectionTick, HeartbeatTick: defaultHeartbeatTick,
		MaxSizePerMsg: defaultSizePerMsg, MaxInflightMsgs: defaultInflightMsgs, MaxInflightBytes: defaultInflightBytes,
		MaxUncommittedSize: defaultUncommittedSize, MaxCommittedSizePerReady: defaultCommittedSize,
		CheckQuorum: true, PreVote: true, StepDownOnRemoval: true,
		LeaseMarginTick: 2, SnapshotTimeoutTick: 10 * defaultElectionTick,
	}
}

func (c *Config) electionRange() (lo, hi int) {
	lo, hi = c.MinElectionTick, c.MaxElectionTick
	if lo == 0 {
		lo = c.ElectionTick
	}
	if hi == 0 {
		hi = 2 * c.ElectionTick
	}
	return lo, hi
}

// ticksMax bounds every number of ticks, so that no arithmetic on them can overflow.
const ticksMax = 1 << 29

// Validate reports every fault at once, with value and bound.
func (c *Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("raft: config: "+format, args...))
		}
	}
	fault(reservedID(c.ID), "ID %d is reserved: 0, 2^64-1 and 2^64-2 are", c.ID)
	fault(c.HeartbeatTick < 1, "HeartbeatTick (%d) must be >= 1", c.HeartbeatTick)
	fault(c.ElectionTick <= c.HeartbeatTick, "ElectionTick (%d) must be > HeartbeatTick (%d)", c.ElectionTick, c.HeartbeatTick)
	fault(c.ElectionTick > ticksMax, "ElectionTick (%d) must be <= %d", c.ElectionTick, ticksMax)
	lo, hi := c.electionRange()
	fault(lo < c.ElectionTick, "MinElectionTick (%d) must be 0 or >= ElectionTick (%d)", c.MinElectionTick, c.ElectionTick)
	fault(hi <= lo, "MaxElectionTick (%d) must be 0 or > MinElectionTick (%d)", c.MaxElectionTick, lo)
	fault(hi > 2*ticksMax, "MaxElectionTick (%d) must be <= %d", c.MaxElectionTick, 2*ticksMax)
	fault(c.MaxInflightMsgs < 1, "MaxInflightMsgs (%d) must be >= 1", c.MaxInflightMsgs)
	fault(c.ReadOnlyOption > ReadOnlyLeaseBased, "ReadOnlyOption (%d) must be ReadOnlySafe or ReadOnlyLeaseBased", c.ReadOnlyOption)
	lease := c.ReadOnlyOption == ReadOnlyLeaseBased
	fault(lease && !c.CheckQuorum, "ReadOnlyLeaseBased requires CheckQuorum")
	fault(c.LeaseMarginTick < 0 || lease && c.LeaseMarginTick >= c.ElectionTick, "LeaseMarginTick (%d) must be in [0, ElectionTick (%d))", c.LeaseMarginTick, c.ElectionTick)
	fault(c.SnapshotTimeoutTick < 0, "SnapshotTimeoutTick (%d) must be >= 0 (0: no timeout)", c.SnapshotTimeoutTick)
	fault(c.Rand == nil, "Rand must be set: the core has no chance of its own, so that a run replays")
	return errors.Join(faults...)
}
