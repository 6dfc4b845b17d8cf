package sim

import (
	"math/rand/v2"

	"lograft/raft"
)

// nodesMax is the largest cluster, spare nodes included.
const nodesMax = 7

// plan is what a seed decides before the first event. Chances are per
// occasion, delays in units (1,000 to a tick).
type plan struct {
	seed  uint64
	ticks uint64 // of faults, before healing

	voters, learners, nodes                                              int
	lease                                                                bool
	electionTick, electionMax, marginTick, heartbeatTick                 int // electionMax 0: the core's own
	preVote, checkQuorum, stepDown                                       bool
	skipBcast, batch, noForward, quiet, eager                            bool
	maxSize, maxInflightBytes, maxUncommitted, maxCommitted, unpersisted uint64
	inflight                                                             int
	priorities                                                           bool
	groupCommit                                                          bool
	snapshotTimeout                                                      int

	asyncOnly, syncOnly   bool
	tickSpread            float64 // tick periods are drawn in 1 ± this
	smLate                bool
	slowReads, snapBusy   float64
	lazyReady             float64
	crashInside           float64
	syncUnits, applyUnits uint64
	faultEvery, workEvery uint64 // mean units between
	confChance, reuseCtx  float64
}

func drawPlan(seed uint64, rng *rand.Rand) plan {
	coin := func(p float64) bool { return rng.Float64() < p }
	pick := func(vs ...uint64) uint64 { return vs[rng.IntN(len(vs))] }
	p := plan{
		seed: seed, ticks: pick(250, 500, 800),
		voters: int(pick(1, 2, 3, 3, 3, 4, 5, 5)), learners: int(pick(0, 0, 1, 2)),
		lease:        coin(0.35),
		electionTick: int(pick(6, 10, 10, 15)), heartbeatTick: int(pick(1, 1, 2)),
		preVote: coin(0.7), checkQuorum: coin(0.7), stepDown: coin(0.8),
		skipBcast: coin(0.2), batch: coin(0.3), noForward: coin(0.2), quiet: seed%2 == 0, eager: seed/2%2 == 0,
		maxSize: pick(0, 64, 512, 1<<20, 1<<20), maxInflightBytes: pick(0, 0, 200, 4096),
		maxUncommitted: pick(0, 0, 300, 4096), maxCommitted: pick(0, 0, 50, 400),
		unpersisted: pick(0, 0, 0, 3, 1000), inflight: int(pick(1, 2, 16, 256)),
		priorities: coin(0.2), groupCommit: coin(0.15), snapshotTimeout: int(pick(5, 20, 60)),
		tickSpread: []float64{0.01, 0.1, 0.5}[rng.IntN(3)], smLate: coin(0.5),
		slowReads: []float64{0, 0, 0.2, 0.6}[rng.IntN(4)], snapBusy: []float64{0, 0.2, 0.5}[rng.IntN(3)],
		lazyReady: []float64{0, 0.1, 0.4}[rng.IntN(3)], crashInside: []float64{0, 0, 0.001, 0.004}[rng.IntN(4)],
		syncUnits: pick(50, 500, 3000), applyUnits: pick(20, 500, 4000),
		faultEvery: pick(4, 10, 30) * tickUnits, workEvery: pick(100, 300, 1000),
		confChance: []float64{0, 0.02, 0.08}[rng.IntN(3)], reuseCtx: []float64{0, 0, 0.3}[rng.IntN(3)],
	}
	switch rng.IntN(4) {
	case 0:
		p.asyncOnly = true
	case 1:
		p.syncOnly = true
	}
	p.nodes = min(nodesMax, p.voters+p.learners+rng.IntN(3))
	if p.lease {
		p.checkQuorum, p.tickSpread = true, 0.05
		p.electionTick = max(p.electionTick, 8)
		// (election-margin) slow leader ticks must fit (election-1) fast voter ticks.
		ratio := (1 + p.tickSpread) / (1 - p.tickSpread)
		for float64(p.electionTick-p.marginTick)*ratio > float64(p.electionTick-1) {
			p.marginTick++
		}
	}
	if p.maxUncommitted != 0 {
		p.maxUncommitted = max(p.maxUncommitted, p.maxSize)
	}
	return p
}

func (p *plan) drawMode(c *cluster) driveMode {
	switch {
	case p.asyncOnly:
		return driveAsync
	case p.syncOnly:
		return driveMode(c.below(2))
	}
	return driveMode(c.below(3))
}

func (p *plan) drawPeriod(c *cluster) uint64 {
	spread := p.tickSpread
	if c.healing {
		spread = min(spread, 0.1)
	}
	return uint64(tickUnits * (1 + spread*(2*c.rng.Float64()-1)))
}

func (p *plan) config(c *cluster, n *node) raft.Config {
	cfg := raft.DefaultConfig(n.id)
	cfg.ElectionTick, cfg.MaxElectionTick, cfg.HeartbeatTick = p.electionTick, p.electionMax, p.heartbeatTick
	cfg.Applied = n.sm.index
	cfg.MaxSizePerMsg, cfg.MaxInflightMsgs, cfg.MaxInflightBytes = p.maxSize, p.inflight, p.maxInflightBytes
	cfg.MaxUncommittedSize, cfg.MaxCommittedSizePerReady = p.maxUncommitted, p.maxCommitted
	cfg.MaxApplyUnpersistedLogLimit = p.unpersisted
	if c.healing {
		cfg.MaxCommittedSizePerReady = 0
	}
	cfg.CheckQuorum, cfg.PreVote, cfg.StepDownOnRemoval = p.checkQuorum, p.preVote, p.stepDown
	cfg.SkipBcastCommit, cfg.BatchAppend, cfg.DisableProposalForwarding, cfg.QuietCommits = p.skipBcast, p.batch, p.noForward, p.quiet
	cfg.EagerElections, cfg.SnapshotTimeoutTick = p.eager, p.snapshotTimeout
	if p.lease {
		cfg.ReadOnlyOption, cfg.LeaseMarginTick = raft.ReadOnlyLeaseBased, p.marginTick
	}
	if p.priorities && !c.healing {
		cfg.Priority = int64(c.below(3))
	}
	cfg.Rand = n.rng.IntN
	cfg.Tracer = &nodeTracer{n}
	return cfg
}
