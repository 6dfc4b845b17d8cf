package sim

import (
	"fmt"
	"io"
	"math/rand/v2"

	"lograft/raft"
)

// Options say which run to make.
type Options struct {
	Seed  uint64
	Trace io.Writer // nil: none; else every event in text
}

// Result is what a run showed. Err names the checker, the time and the node.
type Result struct {
	Seed  uint64
	Hash  uint64 // of everything that happened: equal for equal seeds
	Stats Stats
	Err   error
}

// cluster owns a run: nodes, links, time.
type cluster struct {
	plan  plan
	rng   *rand.Rand
	now   uint64 // units
	seq   uint64
	queue eventHeap
	nodes []*node // nodes[id]; nodes[0] is unused
	net   network
	check *checker
	trace trace
	stats Stats
	err   error

	healing   bool
	conf      raft.ConfState // newest applied anywhere
	confIndex uint64
	proposed  uint64 // distinct proposals so far
	asked     uint64 // distinct reads so far
}

// Run makes one run; it returns when the run is over.
func Run(opts Options) Result {
	rng := rand.New(rand.NewPCG(opts.Seed, 0x10617af7))
	c := &cluster{plan: drawPlan(opts.Seed, rng), rng: rng, trace: trace{out: opts.Trace}}
	c.trace.printf(0, "plan %+v", c.plan)
	c.net = network{
		c: c, loss: []float64{0, 0.02, 0.15}[rng.IntN(3)], dup: []float64{0, 0.05, 0.2}[rng.IntN(3)],
		slow: []float64{0, 0.01, 0.1}[rng.IntN(3)], latency: []uint64{50, 300, 2000}[rng.IntN(3)],
		slowMax: uint64(4*c.plan.electionTick) * tickUnits,
	}
	c.check = newChecker(c)
	c.birth()
	c.after(1+c.below(2*c.plan.workEvery), rankOther, "work", 0, c.work)
	c.after(1+c.below(2*c.plan.faultEvery), rankOther, "fault", 0, c.fault)
	for end := c.plan.ticks * tickUnits; c.now < end && c.step(); {
	}
	if c.err == nil {
		c.heal()
	}
	c.stats.Runs = 1
	return Result{Seed: opts.Seed, Hash: c.trace.hash, Stats: c.stats, Err: c.err}
}

// birth gives the first members one snapshot at index 1 and starts them.
func (c *cluster) birth() {
	for i := range c.plan.voters {
		c.conf.Voters = append(c.conf.Voters, uint64(i+1))
	}
	for i := c.plan.voters; i < min(c.plan.voters+c.plan.learners, c.plan.nodes); i++ {
		c.conf.Learners = append(c.conf.Learners, uint64(i+1))
	}
	c.check.confs[birthIndex] = confString(c.conf)
	c.nodes = make([]*node, c.plan.nodes+1)
	for id := 1; id <= c.plan.nodes; id++ {
		n := newNode(c, uint64(id))
		n.smLate = c.plan.smLate
		c.nodes[id] = n
		if id > len(c.conf.Voters)+len(c.conf.Learners) {
			if c.plan.lease {
				n.disk.seen.hs = raft.HardState{Term: birthTerm}
				n.disk.safe.hs = n.disk.seen.hs
			}
			continue
		}
		n.disk.check = checkpoint{index: birthIndex, chain: birthChain, conf: cloneConf(c.conf)}
		s := raft.Snapshot{Data: n.disk.check.snapshotData()}
		s.Metadata = raft.SnapshotMetadata{ConfState: cloneConf(c.conf), Index: birthIndex, Term: birthTerm}
		n.disk.seen = image{hs: raft.HardState{Term: birthTerm, Commit: birthIndex}, snap: s, base: birthIndex, baseTerm: birthTerm}
		n.disk.safe = n.disk.seen.clone()
		n.start()
	}
}

func (c *cluster) fail(check string, err error) {
	if c.err == nil {
		c.err = fmt.Errorf("tick %.3f: %s: %w", float64(c.now)/tickUnits, check, err)
		c.trace.printf(c.now, "FAIL %v", c.err)
	}
}

func (c *cluster) chance(p float64) bool { return p > 0 && c.rng.Float64() < p }

// below draws from [0, n); 0 for n = 0.
func (c *cluster) below(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return c.rng.Uint64N(n)
}

func (c *cluster) any() *node { return c.nodes[1+c.below(uint64(c.plan.nodes))] }

// leader is the node that leads the highest term, or nil.
func (c *cluster) leader() (lead *node) {
	for _, n := range c.nodes[1:] {
		if n.up() && n.view.role == raft.StateLeader && (lead == nil || n.view.term > lead.view.term) {
			lead = n
		}
	}
	return lead
}

// running is a random node that can be called now, a leader half of the time.
func (c *cluster) running() *node {
	if n := c.leader(); n != nil && !n.paused && c.chance(0.5) {
		return n
	}
	for range 4 {
		if n := c.any(); n.up() && !n.paused {
			return n
		}
	}
	return nil
}
